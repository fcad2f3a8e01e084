"""Events are kept, go through their pipelines, and end once, with what each node made of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from enricher import Context, Enricher, Insert, Route, load
from enricher.connections import Connections
from enricher.engine.effects import Append, Publish
from enricher.errors import BadMessage
from enricher.events.documents import pending, started, succeeded
from enricher.events.intake import EventIntake
from enricher.events.outbox import keeping
from enricher.events.settings import EventSettings
from enricher.events.types import EventTypes
from tests.event_app.tickets import RUNS, Ticket
from tests.integration.worker import database
from tests.rig import until
from tests.servers import Urls


@asynccontextmanager
async def worker(
    urls: Urls, *, routes: Sequence[Route] = (), first: bool = True, **more: Any
) -> AsyncIterator[tuple[Enricher, Any]]:
    given = {
        "redis.url": urls.redis,
        "mongo.url": urls.mongo,
        "market.enabled": False,
        "events.packages": "tests.event_app",
        "events.initial_backoff": 0.05,
        "events.jitter": "none",
        **{name.replace("__", "."): value for name, value in more.items()},
    }
    if first:
        RUNS.clear()
    async with Enricher(load(overrides=given), routes=routes) as enricher:
        await enricher.wait_ready()
        yield enricher, database(urls.mongo)["events"]


async def ended(events: Any, count: int = 1) -> list[dict[str, Any]]:
    """The events, once so many have ended."""
    query = {"status": {"$in": ["SUCCESS", "FAILURE"]}}
    await until(lambda: events.count_documents(query) == count, f"{count} ends")
    return list(events.find(query))


async def test_an_event_goes_through_its_pipeline(urls: Urls) -> None:
    async with worker(urls) as (enricher, events):
        await enricher.submit("events", b'{"text": "help"}', committed=True)
        (event,) = await ended(events)
        assert event["status"] == "SUCCESS"
        assert event["data"] == {"text": "help", "urgent": False}
        nodes = event["task_context"]["nodes"]
        assert nodes == {"Summarise": {"length": 4}, "Triage": None, "Reply": "thank you"}
        assert event["created_at"] <= event["started_at"] <= event["finished_at"]
        with redis.Redis.from_url(urls.redis) as client:
            key = f"celery-task-meta-{event['_id']}"
            await until(lambda: b'"SUCCESS"' in (client.get(key) or b""), "the result")
            result = json.loads(client.get(key))
        assert (result["status"], result["result"]["nodes"]) == ("SUCCESS", nodes)


async def test_what_no_type_takes_is_refused(urls: Urls) -> None:
    async with worker(urls) as (enricher, events):
        with pytest.raises(BadMessage, match="Field required"):
            await enricher.submit("events", b'{"urgent": true}', committed=True)
        assert events.count_documents({}) == 0


async def test_a_retry_goes_on_after_the_last_finished_node(urls: Urls) -> None:
    async with worker(urls) as (enricher, events):
        await enricher.submit("events", b'{"text": "fail 2"}')
        (event,) = await ended(events)
        assert (event["status"], event["attempts"], event["error"]) == ("SUCCESS", 3, None)
        assert ["Summarise fail 2", *["Reply fail 2"] * 3] == RUNS


async def test_a_final_failure_says_where_and_why_and_is_a_dead_letter(urls: Urls) -> None:
    async with worker(urls, events__max_retries=1) as (enricher, events):
        await enricher.submit("events", b'{"text": "fail"}')
        (event,) = await ended(events)
        assert (event["status"], event["attempts"]) == ("FAILURE", 2)
        assert event["error"]["node"] == "Reply"
        assert (event["error"]["type"], event["error"]["message"]) == ("OSError", "no answer")
        assert "raise OSError" in event["error"]["traceback"]
        assert "enricher/events" not in event["error"]["traceback"]
        assert event["task_context"]["nodes"]["Summarise"] == {"length": 4}
        key = enricher.settings.dead_letters.key
        with redis.Redis.from_url(urls.redis) as client:
            await until(lambda: client.llen(key), "the dead letter")
            (letter,) = client.lrange(key, 0, -1)
            assert json.loads(letter)["args"] == [{"id": event["_id"]}]


async def test_a_pipeline_that_takes_too_long_has_failed_with_what_had_finished(urls: Urls) -> None:
    async with worker(urls, events__max_retries=0, events__timeout=0.5) as (enricher, events):
        await enricher.submit("events", b'{"text": "sleep 600"}')
        (event,) = await ended(events)
    assert (event["status"], event["error"]["node"]) == ("FAILURE", "pipeline")
    assert event["error"]["message"] == "it took longer than events.timeout, which is 0.5 s"
    assert event["task_context"]["nodes"] == {"Summarise": {"length": 9}, "Triage": None}
    assert event["task_context"]["metadata"]["routes"] == {"Triage": "Reply"}


async def test_a_pipeline_that_takes_its_time_is_not_logged_as_slow(
    urls: Urls, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(urls, log__slow_handler=0.01) as (enricher, events):
        await enricher.submit("events", b'{"text": "sleep 0.1"}')
        assert (await ended(events))[0]["status"] == "SUCCESS"
    assert "slow_handler" not in caplog.text


async def test_an_output_that_cannot_be_stored_is_a_failure(urls: Urls) -> None:
    async with worker(urls, events__max_retries=0) as (enricher, events):
        await enricher.submit("events", b'{"text": "odd"}')
        (event,) = await ended(events)
    assert (event["status"], event["error"]["type"]) == ("FAILURE", "TypeError")
    assert "object is nothing that JSON knows" in event["error"]["message"]
    assert event["error"]["node"] == "Reply"
    assert "Summarise" in event["task_context"]["nodes"]
    assert "Reply" not in event["task_context"]["nodes"]


async def test_an_event_whose_pipeline_is_gone_has_failed(urls: Urls) -> None:
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    database(urls.mongo)["events"].insert_one(pending("one", "Gone", {}, token="", now_us=now_us))
    with redis.Redis.from_url(urls.redis) as client:
        client.xadd("enricher:events", {"id": "one"})
    async with worker(urls, events__max_retries=0) as (_, events):
        (event,) = await ended(events)
    assert event["status"] == "FAILURE"
    assert "Gone" in event["error"]["message"]


async def test_what_was_stored_and_never_appended_is_found(urls: Urls) -> None:
    events = database(urls.mongo)["events"]
    long_ago = datetime.now(UTC) - timedelta(minutes=5)
    data = {"text": "left", "urgent": False}
    event = pending("left", "Ticket", data, token="", now_us=round(long_ago.timestamp() * 1e6))
    events.insert_one(event)
    again = worker(urls, first=False, events__sweep_after=1)
    async with worker(urls, events__sweep_after=1) as (_, _), again:
        (found,) = await ended(events)
    assert found["_id"] == "left"
    assert found["status"] == "SUCCESS"
    assert RUNS.count("Summarise left") == 1


async def test_effects_of_nodes_come_with_the_result(urls: Urls) -> None:
    with redis.Redis.from_url(urls.redis) as client, client.pubsub() as channel:
        channel.subscribe("calls")
        assert channel.get_message(timeout=60)
        async with worker(urls) as (enricher, events):
            await enricher.submit("events", b'{"text": "fire", "urgent": true}')
            await ended(events)
        message = channel.get_message(timeout=60)
        assert message["data"] == b"fire"


async def test_a_stream_of_ones_own_brings_events_with_the_same_checks(urls: Urls) -> None:
    with redis.Redis.from_url(urls.redis) as client:
        for fields in (
            {"body": '{"text": "one"}'},
            {"body": '{"text": "two"}', "key": "two"},
            {"body": '{"text": "two"}', "key": "two"},
            {"body": '{"text": "another"}', "key": "two"},
            {"body": '{"urgent": true}'},
            {"text": "no body"},
        ):
            client.xadd("shop:events", fields)
        async with worker(urls, events__source="shop:events") as (enricher, events):
            found = await ended(events, 2)
            key = enricher.settings.dead_letters.key
            await until(lambda: client.llen(key) == 3, "what is wrong to be set aside")
            letters = [json.loads(letter) for letter in client.lrange(key, 0, -1)]
        pending = client.xpending("shop:events", "event_workers")["pending"]
    assert {event["data"]["text"] for event in found} == {"one", "two"}
    assert sorted(RUNS.count(f"Summarise {text}") for text in ("one", "two")) == [1, 1]
    said = " ".join(json.dumps(letter) for letter in letters)
    assert "Field required" in said
    assert "the body that was sent with key 'two' before, or another key" in said
    assert "a field 'body' with an event as JSON" in said
    assert pending == 0


async def test_an_entry_whose_worker_ended_before_it_was_finished_is_the_same_event(urls: Urls) -> None:
    with redis.Redis.from_url(urls.redis) as client:
        client.xadd("shop:events", {"body": '{"text": "one"}'}, id="5-1")
    settings = EventSettings(packages=("tests.event_app",), source="shop:events")
    types = EventTypes({"Ticket": Ticket})
    async with worker(urls) as (enricher, events):
        host = Connections(enricher.settings)
        intake = EventIntake(settings, types, host, lambda: 0)
        context = Context("shop:events", b"", 0, 1, {}, "shop:events/event_workers/5-1")
        entry = intake.decode_entry(b'{"body": "{\\"text\\": \\"one\\"}"}', context)
        # It was stored; the append would have come with the acknowledgement.
        insert, append = intake.handle(entry, context)
        assert isinstance(insert, Insert)
        assert isinstance(append, Append)
        enricher.emit(insert)
        await until(lambda: events.count_documents({}) == 1, "the event")
        await host.redis.aclose()
    async with worker(urls, events__source="shop:events", events__sweep_after=3600) as (_, events):
        (event,) = await ended(events)
    assert event["status"] == "SUCCESS"


async def test_what_was_stored_and_not_published_when_its_process_ended_is_published_once(urls: Urls) -> None:
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    event = started(pending("one", "Ticket", {"text": "fire"}, token="", now_us=now_us), 1, now_us)
    done = succeeded(event, {"nodes": {"Escalate": "called"}}, 1, now_us)
    done = keeping(done, [Publish("calls", b"fire")])
    database(urls.mongo)["events"].insert_one(done)
    with redis.Redis.from_url(urls.redis) as client, client.pubsub() as channel:
        channel.subscribe("calls", "celery-task-meta-one")
        assert channel.get_message(timeout=60)
        assert channel.get_message(timeout=60)
        for _ in range(2):
            client.xadd("enricher:events", {"id": "one"})

        def finished() -> bool:
            (group,) = client.xinfo_groups("enricher:events")
            return bool(group["entries-read"] == 2 and group["pending"] == 0)

        async with worker(urls):
            await until(finished, "both entries to be finished")
        client.publish("calls", "end")
        heard = []
        while (message := channel.get_message(timeout=60)) and message["data"] != b"end":
            heard.append((message["channel"], message["data"]))
        assert client.get("celery-task-meta-one") == heard[1][1]
    assert heard[0] == (b"calls", b"fire")
    assert json.loads(heard[1][1])["result"] == {"nodes": {"Escalate": "called"}}
    assert len(heard) == 2
    assert RUNS == []
