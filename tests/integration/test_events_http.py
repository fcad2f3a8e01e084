"""POST /events: what is answered 202 is kept; whatever is wrong is said; GET tells what became of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from enricher import Enricher, load
from enricher.errors import ConfigError
from tests.integration.worker import database
from tests.rig import until
from tests.servers import Urls, free_port


@asynccontextmanager
async def intake(urls: Urls, **more: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    port = free_port()
    given = {
        "redis.url": urls.redis,
        "mongo.url": urls.mongo,
        "market.enabled": False,
        "events.packages": "tests.event_app",
        "events.initial_backoff": 0.05,
        "web.listen": f"127.0.0.1:{port}",
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    async with Enricher(load(overrides=given)) as enricher:
        await enricher.wait_ready()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            await until(lambda: listens(port), "the web app")
            yield client, enricher


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def id_in(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    message = answer.json()["message"]
    assert message.startswith("process_incoming_event started `")
    return str(message.split("`")[1])


@pytest.mark.parametrize("path", ["/events", "/events/"])
async def test_what_is_accepted_is_stored_and_processed(urls: Urls, path: str) -> None:
    async with intake(urls) as (client, _):
        id_ = id_in(await client.post(path, json={"text": "help"}))
        assert database(urls.mongo)["events"].count_documents({"_id": id_}) == 1

        async def done() -> Any:
            event = (await client.get(f"/events/{id_}")).json()
            return event if event["status"] == "SUCCESS" else None

        event = await until(done, "its end")
        assert event["id"] == id_
        assert event["data"] == {"text": "help", "urgent": False}
        assert event["task_context"]["nodes"]["Reply"] == "thank you"
        assert "token" not in event
        figures = (await client.get("/metrics")).text
        assert 'enricher_pipeline_attempts_total{type="Ticket",status="finished"} 1.0' in figures
        assert 'enricher_node_seconds_count{type="Ticket",node="Reply"} 1' in figures
        assert (await client.get("/events/nothing")).json() == {"detail": "Event with id nothing not found"}
        # A page of another site in the browser of somebody who may reach it needs more than that.
        for foreign in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert (await client.post(path, content=b'{"text": "x"}', headers=foreign)).status_code == 403


async def test_events_are_listed_a_page_at_a_time(urls: Urls) -> None:
    async with intake(urls) as (client, _):
        ids = [id_in(await client.post("/events", json={"text": f"n{at}"})) for at in range(5)]
        first = (await client.get("/events", params={"limit": 3})).json()
        rest = (await client.get("/events", params={"limit": 3, "before": first["next"]})).json()
        assert rest["next"] is None
        assert {each["id"] for each in first["events"] + rest["events"]} == set(ids)
        assert len(first["events"]) == 3
        assert (await client.get("/events", params={"type": "Other"})).json()["events"] == []
        assert (await client.get("/events", params={"status": "failure"})).json()["events"] == []
        for wrong in ({"status": "DONE"}, {"limit": "0"}, {"before": "x"}, {"colour": "red"}):
            answer = await client.get("/events", params=wrong)
            assert answer.status_code == 422, wrong
            assert "was expected, got" in answer.json()["detail"]


async def test_a_page_of_large_events_ends_early_and_none_is_left_out(urls: Urls) -> None:
    async with intake(urls) as (client, _):
        ids = {id_in(await client.post("/events", json={"text": "x" * 500_000})) for _ in range(30)}
        seen: list[str] = []
        asked: dict[str, Any] = {"limit": 500}
        while True:
            answer = await client.get("/events", params=asked)
            assert len(answer.content) < 40 * 1_048_576
            page = answer.json()
            seen += [each["id"] for each in page["events"]]
            if page["next"] is None:
                break
            asked["before"] = page["next"]
        assert len(seen) == 30
        assert set(seen) == ids
        assert len(page["events"]) < 30


async def test_a_repeated_key_is_the_same_event_and_with_another_body_an_error(urls: Urls) -> None:
    async with intake(urls) as (client, _):
        keys = [f"key-{at}" for at in range(5)]
        sent = [
            client.post("/events", json={"text": key}, headers={"Idempotency-Key": key})
            for key in keys
            for _ in range(8)
        ]
        ids = {id_in(answer) for answer in await asyncio.gather(*sent)}
        assert len(ids) == 5
        assert database(urls.mongo)["events"].count_documents({}) == 5
        other = await client.post("/events", json={"text": "x"}, headers={"Idempotency-Key": keys[0]})
        assert other.status_code == 422
        assert other.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
        assert "or another key" in other.json()["detail"][0]["msg"]


async def test_a_key_in_the_body_that_was_used_is_named_where_it_is(urls: Urls) -> None:
    async with intake(urls, events__identity="/text") as (client, _):
        first, again = [await client.post("/events", json={"text": "parcel-7"}) for _ in range(2)]
        assert id_in(first) == id_in(again)
        other = await client.post("/events", json={"text": "parcel-7", "urgent": True})
        assert other.status_code == 422
        (said,) = other.json()["detail"]
        assert (said["type"], said["loc"]) == ("idempotency_key_conflict", ["body", "text"])
        assert said["msg"] == "Expected the body that was sent with key 'parcel-7' before, or another key"


async def test_tokens_and_signatures_are_asked_for(urls: Urls) -> None:
    more = {"events__tokens": {"shop": "s3cret"}, "events__secrets": {"hook": "hmac-key"}}
    async with intake(urls, **more) as (client, enricher):
        body = json.dumps({"text": "signed"}).encode()
        bearer = {"Authorization": "Bearer s3cret"}

        def signed(at: float, key: bytes = b"hmac-key") -> dict[str, str]:
            stamp = str(int(at))
            found = hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            return {**bearer, "X-Timestamp": stamp, "X-Signature": f"sha256={found}"}

        now = time.time()
        id_in(await client.post("/events", content=body, headers=signed(now)))
        for headers, said in (
            ({}, "Authorization: Bearer"),
            ({"Authorization": "Bearer wrong"}, "Authorization: Bearer"),
            (bearer, "X-Timestamp"),
            (signed(now - 900), "X-Timestamp"),
            (signed(now, b"other"), "X-Signature"),
        ):
            answer = await client.post("/events", content=body, headers=headers)
            assert answer.status_code == 401
            assert said in answer.json()["detail"]
        assert (await client.get("/events")).status_code == 401
        assert (await client.get("/events", headers=bearer)).status_code == 200
        assert "s3cret" not in repr(enricher.settings)
        assert "s3cret" not in str(enricher.settings.printable())


async def test_bodies_are_bounded_while_they_are_read(urls: Urls) -> None:
    async with intake(urls, events__max_body=1000, web__body_timeout=0.3) as (client, _):
        long = b'{"text": "' + b"x" * 2000 + b'"}'
        assert (await client.post("/events", content=long)).status_code == 413

        async def parts() -> AsyncIterator[bytes]:
            for at in range(0, len(long), 100):
                yield long[at : at + 100]

        assert (await client.post("/events", content=parts())).status_code == 413

        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.sleep(1)

        late = await client.post("/events", content=slow())
        assert late.status_code == 408
        assert "within 0.3 s" in late.json()["detail"]


async def test_too_many_waiting_events_are_refused_for_now(urls: Urls) -> None:
    async with intake(urls, events__max_waiting=3, events__concurrency=1) as (client, _):
        answers = [await client.post("/events", json={"text": "sleep 5"}) for _ in range(8)]
        busy = [answer for answer in answers if answer.status_code == 429]
        assert busy
        assert int(busy[0].headers["retry-after"]) > 0
        assert "events.max_waiting is 3" in busy[0].json()["detail"]


async def test_a_worker_that_stops_accepts_nothing_and_loses_nothing(urls: Urls) -> None:
    async with intake(urls, events__max_waiting=10_000) as (client, enricher):
        posts = [asyncio.create_task(client.post("/events", json={"text": f"n{at}"})) for at in range(50)]
        await asyncio.sleep(0.05)
        stop = asyncio.create_task(enricher.stop())
        answers = await asyncio.gather(*posts, return_exceptions=True)
        await stop
    accepted = [a for a in answers if isinstance(a, httpx.Response) and a.status_code == 202]
    refused = [a for a in answers if isinstance(a, httpx.Response) and a.status_code != 202]
    assert {each.status_code for each in refused} <= {503}
    stored = {event["_id"] for event in database(urls.mongo)["events"].find()}
    assert {id_in(each) for each in accepted} <= stored


async def test_hostile_requests_get_an_answer_that_says_what_is_wrong(urls: Urls) -> None:
    async with intake(urls) as (client, _):
        for content in (b"", b"\xff", b"[1]", b'{"text": 7}', b'{"text": "x", "urgent": "?"}', b"[" * 10**5):
            answer = await client.post("/events", content=content)
            assert answer.status_code == 422, content[:20]
            for each in answer.json()["detail"]:
                assert each["loc"][0] == "body"
                assert each["msg"]
        other = await client.put("/events", content=b"{}")
        assert other.status_code == 405
        assert set(other.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
        assert (await client.get("/../etc/passwd")).status_code == 404
        port = client.base_url.port
        assert port is not None
        many = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 90) for n in range(2000))
        assert b" 431 " in await raw(port, b"GET /events HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")
        assert b" 400 " in await raw(port, b"NONSENSE\r\n\r\n")


async def test_whoever_sends_no_request_is_hung_up_on(urls: Urls) -> None:
    async with intake(urls, web__header_timeout=0.2) as (client, _):
        port = client.base_url.port
        assert port is not None
        assert await raw(port, b"POST /events HTTP/1.1\r\nHost: x\r\n") == b""


async def raw(port: int, request: bytes) -> bytes:
    """What is answered to these bytes until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_the_app_is_mounted_in_a_program_of_ones_own(urls: Urls) -> None:
    from fastapi import FastAPI

    given = {"redis.url": urls.redis, "mongo.url": urls.mongo, "market.enabled": False}
    enricher = Enricher(load(overrides={**given, "events.packages": "tests.event_app"}))
    app = FastAPI()
    app.mount("/worker", enricher.asgi())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.post("/worker/events", json={"text": "x"})).status_code == 503
        async with enricher:
            await enricher.wait_ready()
            id_ = id_in(await client.post("/worker/events", json={"text": "x"}))
            assert (await client.get(f"/worker/events/{id_}")).json()["id"] == id_


def test_another_address_than_loopback_needs_tokens() -> None:
    for section in ("web", "events"):
        open_to_all = {f"{section}.listen": "0.0.0.0:8080"}
        with pytest.raises(ConfigError, match=f"an address of this machine alone.*or {section}.tokens"):
            load(overrides=open_to_all)
        load(overrides={**open_to_all, f"{section}.tokens": {"a": "b"}})
    with pytest.raises(ConfigError, match="host:port such as"):
        load(overrides={"web.listen": "8080"})
