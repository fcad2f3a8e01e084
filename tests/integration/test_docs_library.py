"""The examples of docs/library.md run as they stand there."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from enricher import Enricher
from tests.integration.commands import ran
from tests.pages import blocks, page
from tests.servers import MongoProcess

with warnings.catch_warnings():
    # It would rather have a later client than httpx, which not everybody has.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

PAGE = page("library.md")
_, _, WEB, FIXTURE = blocks(PAGE)


def test_a_web_service_stores_refuses_and_says_when_it_is_full(
    redis_url: str, own_mongo: MongoProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MONGO_URL", own_mongo.url("shop"))
    monkeypatch.setenv("ENRICHER_POOL__MAX_MESSAGES", "1")
    names: dict[str, Any] = {}
    exec(WEB, names)
    with TestClient(names["app"]) as client:
        assert client.get("/health").json() == {"status": "ready"}
        stored = client.post("/orders", json={"id": 1, "quantity": 3})
        assert (stored.status_code, list(stored.json())) == (201, ["message"])
        refused = client.post("/orders", json={"id": 2, "quantity": "many"})
        assert refused.status_code == 422
        assert refused.json() == {"path": "$.quantity", "expected": "a whole number", "found": "'many'"}
        assert client.post("/orders", content=b"no JSON").json()["path"] == "$"
        enricher: Enricher = client.app_state["enricher"]
        assert client.portal is not None
        own_mongo.pause()
        client.portal.call(enricher.submit, "orders", '{"id": 3, "quantity": 1}')
        full = client.post("/orders", json={"id": 4, "quantity": 1})
        own_mongo.resume()
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    assert not enricher.lost


def test_a_fixture_of_pytest_asyncio_holds_it(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    (tmp_path / "test_orders.py").write_text(FIXTURE)
    command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))
    done = ran(*command, folder=tmp_path, REDIS_URL=redis_url, MONGO_URL=mongo_database_url)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
