"""The programs of docs/search.md run as they stand there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from enricher.events import TaskContext
from enricher.events.search_node import documents
from tests.pages import blocks, page
from tests.rig import PATIENCE
from tests.servers import SearchProcess, Urls


def program(number: int) -> dict[str, Any]:
    """What the program of this number defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(blocks(page("search.md"))[number], "search.md", "exec"), names)
    return names


async def test_a_trade_can_be_searched_for(
    urls: Urls, own_search: SearchProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, url in (("REDIS_URL", urls.redis), ("MONGO_URL", urls.mongo)):
        monkeypatch.setenv(name, url)
    monkeypatch.setenv("ENRICHER_SEARCH__URL", own_search.url)
    await asyncio.wait_for(program(0)["main"](), PATIENCE)
    note = {"id": 7, "revision": 1, "product": "NIFTY", "note": "block trade"}
    assert own_search.documents("trades") == {"7": note}


async def test_a_pipeline_says_itself_what_is_indexed() -> None:
    names = program(1)
    pipeline, context = names["NotePipeline"](), TaskContext(names["Note"](text="a b"))
    context.searchable = True
    await pipeline.arun(context.event, context=context)
    assert documents(pipeline, context) == {"notes": {"words": ["a", "b"]}}
