"""Dead letters in the dashboard: found, looked at, retried one by one and all at once, thrown away."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.app import Enricher, wall_clock
from enricher.dead_letters.record import encode
from enricher.systems import load
from tests.integration.test_market_contract import tick
from tests.integration.worker import WorkerProcess, database, encoded
from tests.rig import PATIENCE, dead_letter, until
from tests.servers import Urls, free_port

LIST = "dlq:enrichment"
STREAM = "letters"
# `LETTERS=10000` for more of them.
LETTERS = int(os.environ.get("LETTERS", "600"))


def letter(number: int, error: str = "it was the disk", body: bytes = b"") -> Any:
    """A letter of a second ago, whose message is a good tick."""
    at = wall_clock() - 1_000_000
    body = body or encoded(tick(100.0 + number % 50, wall_clock() - 30_000_000 + number, number))
    why = {"stage": "commit", "error": error, "error_type": "Rejected", "path": "$.price"}
    known = {"task_id": f"{number:032x}", "task_name": "process_underlying_tick", "key": "NIFTY"}
    return dead_letter(**known, **why, topic="market:underlying", body=body, first_us=at, last_us=at)


@asynccontextmanager
async def dashboard(urls: Urls, **given: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The web app of a worker, mounted, asked as a program on this machine does."""
    settings = load(overrides={"redis.url": urls.redis, "mongo.url": urls.mongo, **given})
    async with Enricher(settings) as enricher:
        await enricher.wait_ready()
        transport = httpx.ASGITransport(app=enricher.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url, socket_timeout=PATIENCE) as client:
        yield client


def marks(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["mark"] for each in answer.json()["letters"]]


async def post(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await client.post(f"/api/v1/dead-letters/{path}", json=body or {})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("kind", ["list", "stream"])
async def test_they_are_found_page_by_page_and_by_what_they_say(urls: Urls, redis: Redis, kind: str) -> None:
    key = LIST if kind == "list" else STREAM
    for number in range(120):
        entry = encode(letter(number, "the price is odd" if number % 40 == 0 else "it was the disk"))
        await (redis.lpush(key, entry) if kind == "list" else redis.xadd(key, {b"letter": entry}))
    given = {"dead_letters.key": key, "dead_letters.store": kind}
    async with dashboard(urls, **given) as client:
        seen: list[str] = []
        after = ""
        while True:
            answer = await client.get("/api/v1/dead-letters", params={"after": after, "limit": 50})
            seen += [each["task_id"] for each in answer.json()["letters"]]
            after = answer.json()["next"]
            if not after:
                break
            # What comes in between moves nothing.
            entry = encode(letter(1000 + len(seen)))
            await (redis.lpush(key, entry) if kind == "list" else redis.xadd(key, {b"letter": entry}))
        assert seen == [f"{number:032x}" for number in reversed(range(120))]

        odd = await client.get("/api/v1/dead-letters", params={"error": "odd", "limit": 2})
        assert len(marks(odd)) == 2
        rest = await client.get("/api/v1/dead-letters", params={"error": "odd", "after": odd.json()["next"]})
        assert len(marks(rest)) == 1
        assert marks(await client.get("/api/v1/dead-letters", params={"since": "2030-01-01"})) == []

        (mark, *_) = marks(odd)
        one = (await client.get(f"/api/v1/dead-letters/0/{mark}")).json()
        assert one["place"] == "$.price"
        assert [line["text"] for line in one["message"] if line["marked"]] == ['"price": 130.0,']
        page = await client.get(f"/ui/dead-letters/0/{mark}")
        assert "<mark>&#34;price&#34;: 130.0,</mark>" in page.text
        for wrong in ("x", "9-9-9", "77777", "9-0", f"9.{'0' * 16}"):
            assert (await client.get(f"/api/v1/dead-letters/0/{wrong}")).status_code == 404
        assert (await client.get("/api/v1/dead-letters", params={"after": "x y"})).status_code == 422
        assert (await client.get("/api/v1/dead-letters", params={"since": "noon"})).status_code == 422
        assert (await client.get("/api/v1/dead-letters", params={"store": 9})).status_code == 404


async def test_one_is_retried_changed_and_discarded(urls: Urls, redis: Redis) -> None:
    bad = encoded({**tick(100.0, wall_clock(), 3), "price": "?"})
    for number, body in ((1, b""), (2, b""), (3, bad)):
        await redis.lpush(LIST, encode(letter(number, body=body)))
    ticks = database(urls.mongo)["underlying_ticks"]
    async with dashboard(urls) as client:
        third, second, first = marks(await client.get("/api/v1/dead-letters"))
        assert (await post(client, f"0/{first}/retry"))["message"].endswith("processed")
        await post(client, f"0/{second}/discard")
        # It fails again, stays once, and says why.
        assert "price" in (await post(client, f"0/{third}/retry", status=409))["detail"]
        (again,) = (await client.get("/api/v1/dead-letters")).json()["letters"]
        assert again["attempts"] == 2
        good = encoded(tick(105.0, wall_clock(), 3)).decode()
        await post(client, f"0/{again['mark']}/retry", {"message": good})
        assert (await client.get("/api/v1/dead-letters")).json()["stores"][0]["count"] == 0
        await post(client, f"0/{first}/discard", status=404)
    assert sorted(each["price"] for each in ticks.find()) == [101.0, 105.0]


async def test_all_that_match_are_retried_once_over_a_kill(urls: Urls, redis: Redis) -> None:
    await redis.lpush(LIST, *(encode(letter(number)) for number in range(LETTERS)))
    await redis.lpush(LIST, *(encode(letter(LETTERS + n, "something else")) for n in range(20)))
    broken = [encode(letter(LETTERS + 100 + n, body=b'{"price": "?"}')) for n in range(10)]
    await redis.lpush(LIST, *broken)
    port = free_port()
    web = {"ENRICHER_WEB__LISTEN": f"127.0.0.1:{port}"}
    process = WorkerProcess(urls.redis, urls.mongo, web, forked=True)
    meant, tried = LETTERS + len(broken), 0

    async def run() -> dict[str, Any]:
        try:
            found: dict[str, Any] = (await client.get("/api/v1/dead-letters/run")).json() or {}
        except httpx.HTTPError:
            return {}
        assert tried <= found.get("processed", 0) + found.get("failed", 0) <= meant
        return found

    async def until_it_has(number: int, state: str) -> None:
        """However slow the machine: as long as the counters go up, there is hope."""
        nonlocal tried

        async def more() -> bool:
            nonlocal tried
            now = await run()
            before, tried = tried, now.get("processed", 0) + now.get("failed", 0)
            return tried > before or now.get("state") == state

        while tried < number or (await run()).get("state") != state:
            await until(more, f"more than {tried} to be retried")
            await asyncio.sleep(LETTERS / 20_000)  # a question costs as much as a letter

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client, process:
        order = {"error": "disk", "rate": LETTERS / 3}
        await post(client, "retry", order)
        await post(client, "retry", order, status=409)
        await until_it_has(LETTERS // 3, "running")
        await process.kill()
        assert json.loads(await redis.get(f"{LIST}:retries"))["state"] == "running"
        await process.start()
        tried = 0
        await until_it_has(meant, "done")
        ended = await run()
    assert (ended["processed"], ended["failed"], ended["meant"]) == (LETTERS, 10, meant)
    assert await redis.llen(LIST) == 30
    assert database(urls.mongo)["underlying_ticks"].count_documents({}) == LETTERS
