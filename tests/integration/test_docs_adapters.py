"""The example of docs/adapters.md runs as it stands there: a source and a sink of a program's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.pages import blocks, page
from tests.rig import PATIENCE

PAGE = page("adapters.md")


def adapters_page() -> dict[str, Any]:
    """What the example defines."""
    (example,) = blocks(PAGE)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "adapters.md", "exec"), names)
    return names


async def test_a_line_of_a_file_becomes_a_file(
    tmp_path: Path, redis_url: str, mongo_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    notes = tmp_path / "notes.txt"
    notes.write_bytes(b'notes\t{"id": 1, "text": "max pain"}\n')
    await asyncio.wait_for(adapters_page()["main"](notes, tmp_path / "shouted"), PATIENCE)
    assert (tmp_path / "shouted" / "1.txt").read_bytes() == b"MAX PAIN"
