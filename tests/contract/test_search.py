"""What the sink of search indices promises, asked of a server and of one that fails in every way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from enricher.adapters.search import SearchIndices, bulks, search_client
from enricher.config import SearchSettings
from enricher.engine.circuit_breaker import CircuitBreaker
from enricher.engine.effects import SEARCH, Effect, Index, Insert, Unindex
from enricher.engine.ports import Refused
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable, WrongSetting
from tests.contract.test_sinks import writes
from tests.http_faults import HttpFaults, Reply, Request
from tests.rig import PATIENCE, QUICK, Clock, until
from tests.servers import SearchProcess, free_port

NUMBERS = {"mappings": {"properties": {"n": {"type": "long"}}}}


@asynccontextmanager
async def sink_of(
    url: str,
    indices: Mapping[str, Any] = {},
    *,
    timeout: float = PATIENCE,
    max_bulk: int = 10**7,
    **more: Any,
) -> AsyncIterator[SearchIndices]:
    client = search_client(SearchSettings(url=url, **more))
    try:
        yield SearchIndices(client, indices, timeout=timeout, max_bulk=max_bulk)
    finally:
        await client.close()


@pytest.fixture
async def sink(search_process: SearchProcess, search_index: str) -> AsyncIterator[SearchIndices]:
    async with sink_of(search_process.url, {search_index: NUMBERS}) as made:
        yield made


@pytest.fixture
async def faults(search_process: SearchProcess) -> AsyncIterator[HttpFaults]:
    async with HttpFaults(search_process.port) as proxy:
        yield proxy


def breaker_of(sink: SearchIndices) -> CircuitBreaker:
    return CircuitBreaker(sink, QUICK, Clock(), Stats())


# -- what is written -----------------------------------------------------------------------------------


async def test_a_document_is_indexed_under_its_id_with_its_version(
    sink: SearchIndices, search_process: SearchProcess, search_index: str
) -> None:
    assert await sink.commit(writes(Index(search_index, "a", {"n": 1}, 7))) == {}
    assert search_process.documents(search_index) == {"a": {"n": 1}}
    assert search_process.version(search_index, "a") == 7


async def test_the_newest_version_wins_whatever_comes_when_and_how_often(
    sink: SearchIndices, search_process: SearchProcess, search_index: str
) -> None:
    first = writes(Index(search_index, "a", {"n": 1}, 3), Index(search_index, "a", {"n": 2}, 5))
    for batch in (first, first, writes(Index(search_index, "a", {"n": 3}, 4))):
        assert await sink.commit(batch) == {}
    assert search_process.documents(search_index) == {"a": {"n": 2}}


async def test_a_document_is_removed_and_doing_it_twice_is_harmless(
    sink: SearchIndices, search_process: SearchProcess, search_index: str
) -> None:
    await sink.commit(writes(Index(search_index, "a", {"n": 1}, 1)))
    for _ in range(2):
        assert await sink.commit(writes(Unindex(search_index, "a", 3), Unindex(search_index, "b", 3))) == {}
    assert search_process.documents(search_index) == {}


async def test_an_older_removal_changes_nothing(
    sink: SearchIndices, search_process: SearchProcess, search_index: str
) -> None:
    await sink.commit(writes(Index(search_index, "a", {"n": 1}, 2)))
    assert await sink.commit(writes(Unindex(search_index, "a", 1))) == {}
    assert search_process.documents(search_index) == {"a": {"n": 1}}


async def test_effects_for_other_sinks_ask_nothing_of_the_server() -> None:
    async with sink_of(f"http://127.0.0.1:{free_port()}", {"numbers": NUMBERS}) as nowhere:
        assert await nowhere.commit(writes(Insert("c", {"_id": 1}), [])) == {}


class Unheard(Effect, frozen=True, gc=False):
    sink: ClassVar[str] = SEARCH


async def test_an_unknown_effect_is_loud(sink: SearchIndices) -> None:
    with pytest.raises(TypeError, match="cannot write Unheard"):
        await sink.commit(writes(Unheard()))


async def test_a_bulk_has_no_more_bytes_than_it_may_unless_one_document_has(
    faults: HttpFaults, search_process: SearchProcess, search_index: str
) -> None:
    texts = ["x" * size for size in (10, 300, 3000, 300, 300, 10)]
    batch = writes(*(Index(search_index, str(n), {"text": text}, 1) for n, text in enumerate(texts)))
    async with sink_of(faults.url, max_bulk=1000) as sink:
        assert await sink.commit(batch) == {}
    sizes = [len(request.body) for request in faults.requests]
    assert len(sizes) == 3
    assert [size > 1000 for size in sizes] == [False, True, False]
    assert len(search_process.documents(search_index)) == len(texts)


# -- what is refused -----------------------------------------------------------------------------------


async def test_of_500_documents_one_bad_one_is_refused_with_the_reason_and_the_path(
    sink: SearchIndices, search_process: SearchProcess, search_index: str
) -> None:
    batch = writes(*(Index(search_index, str(n), {"n": "many" if n == 77 else n}, 1) for n in range(500)))
    answers = await breaker_of(sink).commit(batch)
    assert list(answers) == [77]
    refused = answers[77]
    assert isinstance(refused, Refused)
    assert (refused.error_type, refused.path) == ("document_parsing_exception", "$.n")
    assert "failed to parse field [n] of type [long]" in refused.reason
    assert len(search_process.documents(search_index)) == 499


@pytest.mark.parametrize(
    "bad",
    [
        Index("Upper", "a", {}, 1),
        Index("_first", "a", {}, 1),
        Index("", "a", {}, 1),
        Index("two words", "a", {}, 1),
        Index("a" * 256, "a", {}, 1),
        Index("good", "", {}, 1),
        Index("good", "é" * 257, {}, 1),
        Index("good", "\ud800", {}, 1),
        Index("good", "a", {}, -1),
        Index("good", "a", {}, 2**63),
        Index("good", "a", {}, True),
        Unindex("Upper", "a", 1),
    ],
)
async def test_what_would_have_a_real_server_refuse_the_whole_bulk_is_refused_alone(
    sink: SearchIndices, search_process: SearchProcess, search_index: str, bad: Effect
) -> None:
    good = Index(search_index, "a", {"n": 1}, 1)
    answers = await sink.commit(writes(bad, [good, bad], good))
    assert {index: type(answer) for index, answer in answers.items()} == {0: Refused, 1: Refused}
    assert search_process.documents(search_index) == {"a": {"n": 1}}


@pytest.mark.parametrize(
    ("value", "path"), [({"a": [object()]}, "$.v.a[0]"), ("\ud800", "$.v"), ({"\ud800": 1}, "$.v.\\ud800")]
)
async def test_what_is_no_json_is_refused_with_its_path(
    sink: SearchIndices, search_index: str, value: Any, path: str
) -> None:
    answers = await sink.commit(writes(Index(search_index, "a", {"v": value}, 1)))
    refused = answers[0]
    assert isinstance(refused, Refused)
    assert refused.path == path


# -- what is an outage ---------------------------------------------------------------------------------


def bulk(reply: Reply) -> Any:
    return lambda request: reply if "_bulk" in request.line else None


def item_reply(*statuses: int) -> Reply:
    error = {"error": {"type": "some_exception", "reason": "busy"}}
    items = [{"index": {"status": status, **(error if status > 299 else {})}} for status in statuses]
    return Reply(200, json.dumps({"errors": True, "items": items}).encode())


OUTAGES = [
    *(Reply(status, b'{"error": {"type": "t", "reason": "r"}}') for status in (401, 403, 404, 429, 500, 503)),
    Reply(502, b"<html>Bad Gateway</html>", "text/html"),
    Reply(400, b"<html>The plain HTTP request was sent to HTTPS port</html>", "text/html"),
    Reply(200, b"<html>Welcome</html>", "text/html"),
    Reply(200, b"not json"),
    Reply(200, b"{}"),
    item_reply(),
    item_reply(201, 429),
    item_reply(400, 503),
    item_reply(403, 201),
]


@pytest.mark.parametrize("reply", OUTAGES, ids=lambda reply: f"{reply.status} {reply.body[:90].decode()}")
async def test_a_server_in_trouble_is_waited_out_and_nobody_is_blamed(
    faults: HttpFaults, search_process: SearchProcess, search_index: str, reply: Reply
) -> None:
    batch = writes(*(Index(search_index, each, {"n": 1}, 1) for each in "ab"))
    async with sink_of(faults.url) as sink:
        faults.answer = bulk(reply)
        breaker = breaker_of(sink)
        commit = asyncio.create_task(breaker.commit(batch))
        await until(lambda: len(faults.requests) > 10, "some tries")
        assert breaker.down_since is not None
        assert not commit.done()
        faults.answer = lambda request: None
        assert await commit == {}
        assert breaker.down_since is None
    assert set(search_process.documents(search_index)) == {"a", "b"}


@pytest.mark.parametrize("status", [400, 413])
async def test_a_bulk_that_is_refused_as_a_whole_is_sent_in_parts_until_it_is_known_why(
    faults: HttpFaults, search_process: SearchProcess, search_index: str, status: int
) -> None:
    def answer(request: Request) -> Reply | None:
        return Reply(status, b'{"error": "too much"}') if b"bad" in request.body else None

    batch = writes(*(Index(search_index, str(n), {"v": "bad" if n == 5 else n}, 1) for n in range(20)))
    async with sink_of(faults.url) as sink:
        faults.answer = answer
        answers = await breaker_of(sink).commit(batch)
    assert list(answers) == [5]
    assert len(search_process.documents(search_index)) == 19


async def test_a_frozen_and_a_killed_server_are_outages(own_search: SearchProcess, search_index: str) -> None:
    async with sink_of(own_search.url, {search_index: NUMBERS}, timeout=0.3) as sink:
        breaker = breaker_of(sink)
        await breaker.open()
        own_search.pause()
        with pytest.raises(SinkUnavailable, match="Timeout"):
            await sink.commit(writes(Index(search_index, "a", {"n": 1}, 1)))
        own_search.resume()
        assert await breaker.commit(writes(Index(search_index, "a", {"n": 1}, 1))) == {}
        own_search.kill()
        with pytest.raises(SinkUnavailable, match=r"ConnectionError: (Server|Cannot)"):
            await sink.commit(writes(Index(search_index, "b", {"n": 1}, 1)))
        commit = asyncio.create_task(breaker.commit(writes(Index(search_index, "b", {"n": 1}, 1))))
        await until(lambda: breaker.down_since is not None, "the outage")
        own_search.start()
        assert await commit == {}
    assert set(own_search.documents(search_index)) >= {"b"}


# -- indices -------------------------------------------------------------------------------------------


async def test_indices_are_made_once_with_a_template_and_left_as_they_are(
    search_process: SearchProcess, search_index: str
) -> None:
    async with sink_of(search_process.url, {search_index: NUMBERS}) as first:
        await first.open()
    other = {"mappings": {"properties": {"n": {"type": "keyword"}}}}
    async with sink_of(search_process.url, {search_index: other}) as second:
        await second.open()
    assert search_process.ask("GET", f"/{search_index}/_mapping")[search_index] == NUMBERS
    search_process.ask("DELETE", f"/{search_index}")
    async with sink_of(search_process.url) as third:
        await third.commit(writes(Index(search_index, "a", {"n": 1}, 1)))
    assert search_process.ask("GET", f"/{search_index}/_mapping")[search_index] == NUMBERS


async def test_an_index_is_there_before_the_first_document_is_written(
    search_process: SearchProcess, search_index: str
) -> None:
    async with sink_of(search_process.url, {search_index: NUMBERS}) as sink:
        await sink.commit(writes(Index(search_index, "a", {"n": 1}, 1)))
    assert search_process.ask("GET", f"/{search_index}/_mapping")[search_index] == NUMBERS


async def test_who_may_not_make_indices_writes_all_the_same(
    faults: HttpFaults, search_process: SearchProcess, search_index: str
) -> None:
    faults.answer = lambda request: None if "_bulk" in request.line else Reply(403)
    async with sink_of(faults.url, {search_index: NUMBERS}) as sink:
        await sink.open()
        assert await sink.commit(writes(Index(search_index, "a", {"n": 1}, 1))) == {}
    assert set(search_process.documents(search_index)) == {"a"}


async def test_mappings_that_the_server_refuses_are_a_wrong_setting(
    faults: HttpFaults, search_index: str
) -> None:
    error = b'{"error": {"type": "mapper_parsing_exception", "reason": "no handler for type [lnog]"}}'
    faults.answer = lambda request: Reply(400, error) if request.line.startswith("PUT") else None
    async with sink_of(faults.url, {search_index: {}}) as sink:
        with pytest.raises(WrongSetting, match=r"search\.indices.*no handler for type \[lnog\]"):
            await sink.open()


# -- who asks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"api_key": "a2V5"}, "ApiKey a2V5"),
        ({"user": "elastic", "password": "pass:word"}, "Basic ZWxhc3RpYzpwYXNzOndvcmQ="),
        ({}, None),
    ],
)
async def test_requests_say_who_asks_and_speak_what_every_version_understands(
    faults: HttpFaults, given: dict[str, str], expected: str | None
) -> None:
    async with sink_of(faults.url, **given) as sink:
        assert await sink.info() == "elasticsearch 8.15.3"
    headers = faults.requests[0].headers
    assert headers.get("authorization") == expected
    assert headers["accept"] == "application/json"


async def test_a_user_in_the_address_counts_and_is_nowhere_shown(faults: HttpFaults) -> None:
    url = f"http://elastic:s%2Fcret@127.0.0.1:{faults.port}"
    async with sink_of(url) as sink:
        await sink.info()
    assert faults.requests[0].headers["authorization"] == "Basic ZWxhc3RpYzpzL2NyZXQ="
    settings = SearchSettings(url=url, api_key="hush")
    for shown in (repr(settings), str(settings.printable())):
        assert "cret" not in shown
        assert "hush" not in shown


async def test_a_server_that_calls_itself_something_else_is_as_good(faults: HttpFaults) -> None:
    version = b'{"version": {"distribution": "opensearch", "number": "2.19.1"}}'
    faults.answer = lambda request: Reply(200, version)
    async with sink_of(faults.url) as sink:
        assert await sink.info() == "opensearch 2.19.1"


def test_a_bulk_ends_before_it_would_be_too_large() -> None:
    items = [(n, b"x" * size) for n, size in enumerate((5, 5, 5, 20, 1))]
    assert [[n for n, _ in part] for part in bulks(items, 10)] == [[0, 1], [2], [3], [4]]
    assert list(bulks([], 10)) == []
