"""What the page on retention shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pymongo

from enricher import load
from enricher.embedded import EmbeddedServers
from enricher.market.routes import INDEXES
from tests.pages import blocks, page

PAGE = page("retention.md")
(TOML,), (JS,), (SHELL,) = (blocks(PAGE, language) for language in ("toml", "js", "sh"))
OLD = ("underlying_ticks", "option_quotes", "option_chains")


def test_the_settings_load_and_every_collection_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TOML, encoding="utf-8")
    assert load(file).retention.underlying_ticks == 30 * 86_400
    assert all(f"`{name}`" in PAGE for name in load().kept())


def test_the_indexes_to_make_in_advance_are_those_of_the_old_collections() -> None:
    made = {
        (name, tuple((key, int(way)) for key, way in re.findall(r"(\w+): (-?1)", keys)))
        for name, keys in re.findall(r"^db\.(\w+)\.createIndex\(\{(.*)\}\)$", JS, re.MULTILINE)
    }
    assert made == {(name, keys) for name, keys in INDEXES if name in OLD}


async def test_a_folder_comes_back_from_its_backup(tmp_path: Path) -> None:
    async def ticks(*documents: dict[str, object]) -> int:
        async with EmbeddedServers(tmp_path / "enricher-data") as found:
            with pymongo.MongoClient[dict[str, object]](found.mongo_url) as client:
                collection = client.get_default_database().underlying_ticks
                for document in documents:
                    collection.insert_one(document)
                return collection.count_documents({})

    assert await ticks({"_id": "one"}) == 1
    await anyio.run_process(["sh", "-ec", SHELL], cwd=tmp_path)
    assert await ticks() == 1
