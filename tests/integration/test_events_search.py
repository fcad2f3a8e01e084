"""Events are indexed once they have succeeded, and their documents say what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from enricher import Insert, Route
from enricher.engine.effects import Index
from enricher.errors import WrongSetting
from enricher.events.cli.acting import delete, retry
from enricher.events.cli.opening import Events
from tests.event_app.tickets import RUNS
from tests.integration.test_events_processing import ended, worker
from tests.integration.worker import database
from tests.rig import until
from tests.servers import SearchProcess, Urls, free_port

TEXT_IS_A_NUMBER = {
    "mappings": {"properties": {"data": {"properties": {"text": {"type": "long"}}}}},
}


async def searched(events: Any, status: str, count: int = 1) -> list[dict[str, Any]]:
    """The events, once the search of so many is so."""
    query = {"search.status": status}
    await until(lambda: events.count_documents(query) == count, f"{count} times {status}")
    return list(events.find(query))


def letters(url: str, key: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(url) as client:
        return [json.loads(each) for each in client.lrange(key, 0, -1)]  # type: ignore[union-attr]


def result(url: str, event: Mapping[str, Any]) -> Any:
    with redis.Redis.from_url(url) as client:
        return json.loads(client.get(f"celery-task-meta-{event['_id']}") or b"{}")  # type: ignore[arg-type]


async def test_an_event_that_has_succeeded_is_indexed(urls: Urls, own_search: SearchProcess) -> None:
    async with worker(urls, search__url=own_search.url) as (enricher, events):
        await enricher.submit("events", b'{"text": "help"}', committed=True)
        (event,) = await searched(events, "indexed")
        await until(lambda: result(urls.redis, event).get("status") == "SUCCESS", "the result")
    assert event["status"] == "SUCCESS"
    assert event["search"] == {"status": "indexed", "error": None, "indices": ["events"]}
    assert event["task_context"]["nodes"]["ElasticsearchIndexNode"] == {"index": "events"}
    found = own_search.documents("events")
    assert list(found) == [event["_id"]]
    document = found[event["_id"]]
    assert (document["type"], document["data"]) == ("Ticket", {"text": "help", "urgent": False})
    assert document["nodes"] == {"Summarise": {"length": 4}, "Triage": None, "Reply": "thank you"}
    assert own_search.ask("GET", "/events/_mapping")["events"]["mappings"]["properties"]["created_at"] == {
        "type": "date"
    }


async def test_what_the_search_server_refuses_has_succeeded_is_a_dead_letter_and_can_be_done_again(
    urls: Urls, own_search: SearchProcess
) -> None:
    own_search.ask("PUT", "/events", TEXT_IS_A_NUMBER)
    async with worker(urls, search__url=own_search.url) as (enricher, events):
        for text in ("1", "2", "three", "4"):
            await enricher.submit("events", json.dumps({"text": text}), committed=True)
        await ended(events, 4)
        await searched(events, "indexed", 3)
        (refused,) = await searched(events, "refused")
        assert refused["data"]["text"] == "three"
        assert (refused["status"], refused["error"]) == ("SUCCESS", None)
        assert "failed to parse field [data.text] of type [long]" in refused["search"]["error"]
        key = enricher.settings.dead_letters.key
        await until(lambda: letters(urls.redis, key), "the dead letter")
        (letter,) = letters(urls.redis, key)
        assert letter["args"] == [{"id": refused["_id"]}]
        assert letter["error"] == refused["search"]["error"]
        assert "$.data.text" in json.dumps(letter)
        await until(lambda: result(urls.redis, refused).get("status") == "SUCCESS", "the result")

        own_search.ask("DELETE", "/events")
        commands = Events(enricher.settings)
        assert (await retry(commands, refused)).label == "is indexed again"
        await searched(events, "indexed", 4)
        assert RUNS.count("Reply three") == 1
        with redis.Redis.from_url(urls.redis) as client:
            group = "enricher:events", "event_workers"
            await until(lambda: client.xpending(*group)["pending"] == 0, "all acknowledged")
        await commands.close()


async def test_while_the_search_server_is_away_only_what_it_is_needed_for_waits(
    urls: Urls, own_search: SearchProcess
) -> None:
    def price(event: Any, context: Any) -> list[Insert]:
        return [Insert("prices", {"_id": event["n"]})]

    route = Route(topic="prices", handler=price, intake="none")
    given = {"search__url": own_search.url, "retry__max_delay": 0.5}
    async with worker(urls, routes=[route], **given) as (enricher, events):
        own_search.kill()
        for number in range(20):
            await enricher.submit("events", json.dumps({"text": str(number)}), committed=True)
        await until(lambda: events.count_documents({"search.status": "pending"}), "one that is stored")
        await until(lambda: "search" in enricher.health()["outages"], "the outage")
        for number in range(500):
            await enricher.submit("prices", b'{"n": %d}' % number, committed=True)
        assert database(urls.mongo)["prices"].count_documents({}) == 500
        assert "search" in enricher.health()["outages"]
        assert events.count_documents({"search.status": "indexed"}) == 0
        own_search.start()
        await searched(events, "indexed", 20)
        assert letters(urls.redis, enricher.settings.dead_letters.key) == []
    assert len(own_search.documents("events")) == 20
    assert len([run for run in RUNS if run.startswith("Reply")]) == 20


async def test_what_was_stored_and_not_indexed_when_its_process_ended_is_indexed(
    urls: Urls, own_search: SearchProcess
) -> None:
    async with worker(urls) as (enricher, events):
        await enricher.submit("events", b'{"text": "help"}', committed=True)
        (event,) = await ended(events)
    search = {"status": "pending", "error": None, "indices": ["events"]}
    nodes = {**event["task_context"]["nodes"], "ElasticsearchIndexNode": {"index": "events"}}
    events.update_one({}, {"$set": {"search": search, "task_context.nodes": nodes}})
    with redis.Redis.from_url(urls.redis) as client:
        client.delete(f"celery-task-meta-{event['_id']}")
        client.xadd("enricher:events", {"id": event["_id"]})
    async with worker(urls, search__url=own_search.url) as (_, events):
        await searched(events, "indexed")
        await until(lambda: result(urls.redis, event).get("status") == "SUCCESS", "the result")
    assert RUNS == []
    assert own_search.version("events", event["_id"]) == event["revision"]


@pytest.mark.parametrize("off", [{}, {"search__url": "http://127.0.0.1:1", "events__search": False}])
async def test_without_a_search_server_nodes_that_index_are_skipped_and_say_so(
    urls: Urls, off: dict[str, Any]
) -> None:
    given = {**off, "events__packages": "tests.indexing_app"}
    if "search__url" in off:
        given["search__url"] = f"http://127.0.0.1:{free_port()}"
    async with worker(urls, **given) as (enricher, events):
        await enricher.submit("events", b'{"note": "a"}', committed=True)
        (event,) = await ended(events)
    assert event["status"] == "SUCCESS"
    assert event["search"] is None
    said = "skipped: there is no search server; see search.url and events.search"
    assert event["task_context"]["metadata"]["IndexNote"] == said


async def test_a_pipeline_has_an_index_and_a_document_of_its_own(
    urls: Urls, own_search: SearchProcess
) -> None:
    given = {"search__url": own_search.url, "events__packages": "tests.indexing_app"}
    async with worker(urls, **given) as (enricher, events):
        await enricher.submit("events", b'{"note": "a"}', committed=True)
        (event,) = await searched(events, "indexed")
    assert event["search"]["indices"] == ["notes", "words"]
    assert own_search.documents("notes") == {event["_id"]: {"text": "a"}}
    assert own_search.documents("words") == {event["_id"]: {"words": ["a"]}}
    assert own_search.documents("events") == {}


async def test_a_deleted_event_is_in_no_index_any_more(urls: Urls, own_search: SearchProcess) -> None:
    async with worker(urls, search__url=own_search.url) as (enricher, events):
        for text in "ab":
            await enricher.submit("events", json.dumps({"text": text}), committed=True)
        await searched(events, "indexed", 2)
        first = events.find_one({"data.text": "a"})
        commands = Events(enricher.settings)
        assert (await delete(commands, first)).done
        await commands.close()
        assert [each["data"]["text"] for each in events.find()] == ["b"]
    assert [each["data"]["text"] for each in own_search.documents("events").values()] == ["b"]


async def test_an_event_that_is_deleted_before_it_is_indexed_does_not_come_back(
    urls: Urls, own_search: SearchProcess
) -> None:
    async with worker(urls, search__url=own_search.url, retry__max_delay=0.5) as (enricher, events):
        own_search.kill()
        await enricher.submit("events", b'{"text": "help"}', committed=True)
        await until(lambda: events.count_documents({"search.status": "pending"}), "it to be stored")
        events.delete_many({})
        own_search.start()
        counts = enricher.stats.topic("enricher:events").counts
        await until(lambda: counts["processed"], "its end")
        assert events.count_documents({}) == 0


async def test_any_route_may_index_and_of_500_only_the_bad_one_is_set_aside(
    urls: Urls, own_search: SearchProcess
) -> None:
    def count(event: Any, context: Any) -> list[Any]:
        document = {"_id": str(event["n"]), "n": event["v"]}
        return [Insert("counts", document), Index("counts", str(event["n"]), {"n": event["v"]}, 1)]

    own_search.ask("PUT", "/counts", {"mappings": {"properties": {"n": {"type": "long"}}}})
    route = Route(topic="counts", handler=count, sinks=("documents", "live", "search"), intake="none")
    async with worker(urls, routes=[route], search__url=own_search.url) as (enricher, _):
        for number in range(500):
            value = "many" if number == 250 else number
            await enricher.submit("counts", json.dumps({"n": number, "v": value}))
        counts = enricher.stats.topic("counts").counts
        await until(lambda: counts["processed"] + counts["dead"] == 500, "all ends")
        assert (counts["processed"], counts["dead"]) == (499, 1)
        (letter,) = letters(urls.redis, enricher.settings.dead_letters.key)
        assert "failed to parse field [n] of type [long]" in json.dumps(letter)
    assert len(own_search.documents("counts")) == 499


async def test_a_route_that_indexes_needs_a_search_server(urls: Urls) -> None:
    route = Route(topic="counts", handler=lambda event, context: [], sinks=("search",), intake="none")
    with pytest.raises(WrongSetting, match=r"search\.url.*counts is indexed there"):
        async with worker(urls, routes=[route]):
            pass
