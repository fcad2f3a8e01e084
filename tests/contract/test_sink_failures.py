"""What the real sinks do with leftovers, obstacles, refusals and servers that are away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from enricher.adapters.mongo import Driver, MongoDocuments, close_client, mongo_client
from enricher.adapters.mongo_slow import SlowCommands
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.sink import RedisLive
from enricher.engine.circuit_breaker import CircuitBreaker
from enricher.engine.effects import Insert, KeyClaim, Publish, SetClaim, SetKey, SetMember, Upsert
from enricher.engine.ports import Claimed, Refused, Stored, Write
from enricher.engine.stats import Stats
from enricher.errors import SinkUnavailable
from tests.contract.test_sinks import WatchedRedis, watched_redis, writes
from tests.rig import PATIENCE, QUICK, Clock, until
from tests.servers import FaultyProxy, MongoProcess, RedisProcess

NOW = 1_750_000_000_000_000


@pytest.fixture
async def live(any_redis_url: str) -> AsyncIterator[WatchedRedis]:
    async with watched_redis(any_redis_url) as found:
        yield found


def claimed(number: int, *more: Any) -> list[Any]:
    """A message with a claim in each form, a cache and a publication."""
    return [
        Publish("out", b"%d" % number),
        SetKey("last", b"%d" % number, 300_000, NOW + number),
        *more,
        SetClaim("minute", f"m{number}", 600),
        KeyClaim(f"claim:{number}", NOW + number, 3600),
    ]


# -- Redis: lifetimes and leftovers --------------------------------------------------------------------


async def test_keys_claims_and_versions_expire_when_they_should(live: WatchedRedis) -> None:
    await live.commit(claimed(1, SetKey("ever", b"", 0)))
    client = live.client
    assert 280_000 < await client.pttl("last") <= 300_000
    assert 86_000 < await client.ttl("version:last") <= 86_400
    assert 3_500 < await client.ttl("claim:1") <= 3_600
    assert 500 < await client.ttl("minute") <= 600
    assert await client.ttl("ever") == -1


async def test_a_set_of_claims_lives_on_with_each_new_one_only(live: WatchedRedis) -> None:
    await live.commit(SetClaim("s", "a", 600))
    await live.client.expire("s", 100)
    await live.commit(SetClaim("s", "a", 600))
    assert await live.client.ttl("s") <= 100
    await live.commit(SetClaim("s", "b", 600))
    assert await live.client.ttl("s") > 500


async def test_the_claim_of_an_old_worker_is_no_claim(live: WatchedRedis) -> None:
    await live.client.set("claim:1", "1", ex=3600)
    assert await live.commit(claimed(1)) == {}
    assert await live.published() == [("out", b"1")]
    assert await live.client.get("claim:1") == b"%d" % (NOW + 1)


async def test_the_sorted_set_of_an_old_worker_is_cleared_once(live: WatchedRedis) -> None:
    await live.client.zadd("z", {"stale": 1.0, "staler": 2.0})
    await live.commit(SetMember("z", "1C", "1P", b"a", 5.0, NOW))
    await live.commit(SetMember("z", "2C", "2P", b"b", 6.0, NOW))
    assert await live.members("z") == [(b"a", 5.0), (b"b", 6.0)]


async def test_event_times_before_1970_are_compared_like_any_other(live: WatchedRedis) -> None:
    for text, version in ((b"a", -5), (b"b", -9), (b"c", 3), (b"d", -1)):
        await live.commit(SetMember("z", "1C", "1P", text, 5.0, version), SetKey("k", text, 0, version))
    assert await live.members("z") == [(b"c", 5.0)]
    assert await live.value("k") == b"c"


# -- Redis: what is refused, and for whom --------------------------------------------------------------


@pytest.mark.parametrize("obstacle", ["claim:2", "members:z"])
async def test_a_key_of_the_wrong_type_refuses_only_its_write_which_can_come_again(
    live: WatchedRedis, obstacle: str
) -> None:
    await live.client.rpush(obstacle, "in the way")
    in_the_way = claimed(2, SetMember("z", "1C", "1P", b"a", 5.0, NOW))
    answers = await live.commit(claimed(1), in_the_way, claimed(3))
    assert list(answers) == [1]
    assert isinstance(answers[1], Refused)
    assert answers[1].error_type == "WRONGTYPE"
    assert await live.published() == [("out", b"1"), ("out", b"3")]
    await live.client.delete(obstacle)
    assert await live.commit(in_the_way) == {}
    assert await live.published() == [("out", b"2")]
    assert await live.members("z") == [(b"a", 5.0)]


async def test_claims_that_were_held_before_are_held_after_a_refusal(live: WatchedRedis) -> None:
    await live.commit(KeyClaim("claim:2", NOW, 3600))
    await live.client.rpush("members:z", "in the way")
    answers = await live.commit(claimed(2, SetMember("z", "1C", "1P", b"a", 5.0, NOW)))
    assert isinstance(answers[0], Refused)
    assert await live.commit(KeyClaim("claim:2", NOW, 3600)) == {0: Claimed()}
    assert await live.commit(KeyClaim("claim:2", NOW + 2, 3600)) == {}


async def test_a_cache_keeps_the_newest_of_the_writes_that_were_not_refused(live: WatchedRedis) -> None:
    await live.client.rpush("claim:3", "in the way")
    answers = await live.commit(claimed(1), claimed(2), claimed(3))
    assert list(answers) == [2]
    assert await live.value("last") == b"2"
    assert await live.client.get("version:last") == b"%d" % (NOW + 2)


@pytest.mark.parametrize(("setting", "said"), [("maxmemory", "OOM"), ("min-replicas-to-write", "NOREPLICAS")])
async def test_no_memory_or_no_replica_is_an_outage_and_the_repeat_completes_it_once(
    live: WatchedRedis, setting: str, said: str
) -> None:
    await live.client.config_set(setting, 1)
    try:
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match=f"live is unavailable: .*{said}"):
                await live.commit(claimed(1), claimed(2))
        assert await live.published() == []
    finally:
        await live.client.config_set(setting, 0)
    assert await live.commit(claimed(1), claimed(2)) == {}
    assert await live.published() == [("out", b"1"), ("out", b"2")]


async def test_a_replica_that_may_not_write_is_an_outage(own_redis: RedisProcess) -> None:
    async with watched_redis(own_redis.url) as live:
        own_redis.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(SinkUnavailable):
            await live.commit(claimed(1))
        own_redis.call("REPLICAOF", "NO", "ONE")
        assert await live.commit(claimed(1)) == {}


async def test_a_password_that_was_changed_in_the_middle_is_an_outage(own_redis: RedisProcess) -> None:
    async with (
        watched_redis(own_redis.url) as live,
        Redis.from_url(own_redis.url, single_connection_client=True) as admin,
    ):
        assert await live.commit(claimed(1)) == {}
        await admin.config_set("requirepass", "another")
        await admin.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(SinkUnavailable, match=r"(?i)auth"):
            await live.commit(claimed(2))
        await admin.config_set("requirepass", "")
        assert await live.commit(claimed(2)) == {}


async def test_a_forgotten_script_is_loaded_again(live: WatchedRedis) -> None:
    await live.commit(claimed(1))
    await live.client.script_flush()
    assert await live.commit(claimed(2)) == {}
    assert await live.published() == [("out", b"1"), ("out", b"2")]


async def test_a_database_that_the_server_has_not_is_an_outage_and_ends_nobody(any_redis_url: str) -> None:
    async with redis_client(any_redis_url.removesuffix("/0") + "/99", socket_timeout=5) as client:
        sink = RedisLive(client)
        with pytest.raises(SinkUnavailable, match="DB index is out of range"):
            await sink.open()
        with pytest.raises(SinkUnavailable, match="DB index is out of range"):
            await sink.commit(writes(claimed(1)))


async def test_what_cannot_be_packed_is_refused_alone(live: WatchedRedis) -> None:
    bad = [Publish("out", object())]  # type: ignore[arg-type]
    breaker = CircuitBreaker(live.sink, QUICK, Clock(), Stats())
    answers = await breaker.commit(writes(claimed(1), bad, claimed(3)))
    assert list(answers) == [1]
    assert await live.published() == [("out", b"1"), ("out", b"3")]


# -- Redis: servers that are away ----------------------------------------------------------------------


async def test_a_frozen_and_a_killed_redis_are_outages(own_redis: RedisProcess) -> None:
    client = redis_client(own_redis.url, socket_timeout=0.2)
    sink = RedisLive(client)
    breaker = CircuitBreaker(sink, QUICK, Clock(), Stats())
    await breaker.open()
    own_redis.pause()
    with pytest.raises(SinkUnavailable):
        await sink.commit(writes(claimed(1)))
    own_redis.resume()
    # Whether the frozen server ran the script before nobody knows; repeating is harmless.
    await breaker.commit(writes(claimed(1)))
    own_redis.kill()
    with pytest.raises(SinkUnavailable):
        await sink.commit(writes(claimed(2)))
    with pytest.raises(SinkUnavailable):
        await sink.open()
    own_redis.start()
    await breaker.commit(writes(claimed(2)))
    await client.aclose()
    async with redis_client(own_redis.url, socket_timeout=PATIENCE) as patient:
        assert await patient.get("last") == b"2"


async def test_a_lost_reply_does_not_publish_twice(live: WatchedRedis) -> None:
    port = int(live.client.connection_pool.connection_kwargs["port"])
    async with FaultyProxy(port) as proxy:
        client = redis_client(proxy.redis_url(), socket_timeout=PATIENCE)
        breaker = CircuitBreaker(RedisLive(client), QUICK, Clock(), Stats())
        await breaker.open()
        proxy.lose_next_reply(only_if=lambda request: b"EVALSHA" in request)
        assert await breaker.commit(writes(claimed(1), claimed(2))) == {}
        assert proxy.lost_replies == 1
        await client.aclose()
    assert await live.published() == [("out", b"1"), ("out", b"2")]


# -- MongoDB -------------------------------------------------------------------------------------------


def stored_again(document: Any) -> list[Any]:
    return []


async def through_gate(sink: MongoDocuments, batch: list[Write]) -> dict[int, Any]:
    return dict(await CircuitBreaker(sink, QUICK, Clock(), Stats()).commit(batch))


def prepared(sink: MongoDocuments, batch: list[Write]) -> list[Write]:
    for write in batch:
        sink.prepare(write)
    return batch


async def test_what_was_encoded_early_is_stored_and_handed_back_as_anything_else(
    documents: MongoDocuments,
) -> None:
    legs = [{"strike": 1.5, "oi": 2**40, "iv": None}]
    value = {"at": datetime(2026, 7, 1, tzinfo=UTC), "legs": legs, "": "ä"}
    plain, early = ({"value": value, "_id": n} for n in range(2))
    claim = KeyClaim("k", 1, 60)
    batch = [*writes(Insert("c", plain, stored_again)), Write([Insert("c", early, stored_again), claim])]
    batch[1:] = prepared(documents, batch[1:])
    assert await documents.commit(batch) == {}
    assert batch[1].effects[1] is claim
    assert await documents.find("c", {}, sort=[("_id", 1)]) == [plain, early]
    again = await documents.commit(prepared(documents, writes(Insert("c", early, stored_again))))
    assert again == {0: Stored(early)}


@pytest.mark.parametrize("kind", [Insert, Upsert])
@pytest.mark.parametrize(
    ("value", "path", "error_type"),
    [
        (2**70, "$.value", "OverflowError"),
        (["\ud800"], "$.value[0]", "UnicodeEncodeError"),
        ({"a\0b": 1}, "$.value.a\\u0000b", "InvalidDocument"),
        ({"a": {1, 2}}, "$.value.a", "InvalidDocument"),
    ],
)
@pytest.mark.parametrize("early", [False, True])
async def test_what_cannot_be_encoded_is_refused_alone_with_its_path(
    documents: MongoDocuments,
    kind: type[Insert] | type[Upsert],
    value: Any,
    path: str,
    error_type: str,
    early: bool,
) -> None:
    batch = writes(*(kind("c", {"_id": n, "value": value if n == 3 else n}) for n in range(8)))
    if early:
        prepared(documents, batch)
    answers = await through_gate(documents, batch)
    assert list(answers) == [3]
    assert (answers[3].error_type, answers[3].path) == (error_type, path)
    assert sorted(d["_id"] for d in await documents.find("c", {})) == [0, 1, 2, 4, 5, 6, 7]


@pytest.mark.parametrize("kind", [Insert, Upsert])
async def test_a_document_without_an_id_is_refused_for_a_server_would_name_it_anew_each_time(
    documents: MongoDocuments, kind: type[Insert] | type[Upsert]
) -> None:
    answers = await through_gate(documents, writes(Insert("c", {"_id": 1}), kind("c", {"text": "x"})))
    refused = answers[1]
    assert isinstance(refused, Refused)
    assert refused.reason == "a document for 'c' needs an '_id' of its message's own; it has text"
    assert [found["_id"] for found in await documents.find("c", {})] == [1]


@pytest.mark.parametrize("early", [False, True])
async def test_a_document_that_is_too_large_is_refused_alone(documents: MongoDocuments, early: bool) -> None:
    huge = Insert("c", {"_id": 1, "text": "x" * (16 * 1024 * 1024 + 1000)})
    batch = writes(Insert("c", {"_id": 0}), huge, Insert("c", {"_id": 2}))
    if early:
        prepared(documents, batch)
    answers = await through_gate(documents, batch)
    assert list(answers) == [1]
    assert isinstance(answers[1], Refused)
    assert sorted(d["_id"] for d in await documents.find("c", {})) == [0, 2]


@pytest.mark.parametrize("kind", [Insert, Upsert])
async def test_a_violated_index_other_than_the_id_is_a_refusal(
    documents: MongoDocuments, mongo_database_url: str, kind: type[Insert] | type[Upsert]
) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as client:
        client.get_default_database()["c"].create_index("tick_id", unique=True)
    batch = writes(*(kind("c", {"_id": n, "tick_id": t}) for n, t in enumerate("aba")))
    answers = await documents.commit(batch)
    assert {i: type(a) for i, a in answers.items()} == {2: Refused}
    assert [d["_id"] for d in await documents.find("c", {}, sort=[("_id", 1)])] == [0, 1]


async def test_indexes_are_made_at_opening_and_left_alone_when_they_differ(
    driver: Driver, mongo_url: str, mongo_database: str, mongo_database_url: str
) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as plain:
        plain.get_default_database()["c"].create_index([("a", 1), ("b", -1)], expireAfterSeconds=60)
    client = mongo_client(mongo_url, driver=driver, timeout=PATIENCE)
    sink = MongoDocuments(client, mongo_database, [("c", (("a", 1), ("b", -1))), ("c", (("x", 1),))])
    await sink.open()
    await sink.open()
    await close_client(client)
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as plain:
        assert {"a_1_b_-1", "x_1"} <= set(plain.get_default_database()["c"].index_information())


async def test_collections_are_there_before_anything_is_written(
    driver: Driver, mongo_url: str, mongo_database: str, mongo_database_url: str
) -> None:
    """Made by an index and by a write at once, two of them bring the bundled server to a standstill."""
    client = mongo_client(mongo_url, driver=driver, timeout=PATIENCE)
    sink = MongoDocuments(client, mongo_database, [("c", (("a", 1),))], collections=("s", "t"))
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as plain:
        plain.get_default_database().create_collection("t")
        await asyncio.gather(*(sink.commit(writes(Upsert("new", {"_id": n}))) for n in range(3)))
        assert {"c", "new", "s", "t"} == set(plain.get_default_database().list_collection_names())
    await close_client(client)


def fail(server: MongoProcess, mode: str, **data: Any) -> None:
    with pymongo.MongoClient[dict[str, Any]](server.url()) as client:
        client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})


@pytest.mark.parametrize("code", [50, 189])
async def test_errors_of_a_server_in_trouble_are_outages(
    own_mongo: MongoProcess, driver: Driver, code: int
) -> None:
    # This server does not announce a change of its state, so the driver has to look by itself.
    url = own_mongo.url() + "&serverMonitoringMode=poll&heartbeatFrequencyMS=500"
    client = mongo_client(url, driver=driver, timeout=0.6)
    sink = MongoDocuments(client, "db")
    fail(own_mongo, "alwaysOn", failCommands=["insert", "update", "find"], errorCode=code)
    for effect in (Insert("c", {"_id": 1}), Upsert("c", {"_id": 2})):
        with pytest.raises(SinkUnavailable):
            await sink.commit(writes(effect))
    with pytest.raises(SinkUnavailable):
        await sink.find("c", {})
    fail(own_mongo, "off")
    assert await through_gate(sink, writes(Insert("c", {"_id": 1}))) == {}
    await close_client(client)


@pytest.mark.parametrize("failed", [["insert"], ["insert", "update"]])
async def test_error_codes_on_no_list_wait_while_nothing_lands_and_are_said_once(
    own_mongo: MongoProcess, driver: Driver, failed: list[str]
) -> None:
    client = mongo_client(own_mongo.url(), driver=driver, timeout=PATIENCE)
    breaker = CircuitBreaker(MongoDocuments(client, "db"), QUICK, Clock(), Stats())
    stored = list[int]()
    for code in (8000, 16500, 1):
        fail(own_mongo, "alwaysOn", failCommands=failed, errorCode=code)
        numbers = range(len(stored), len(stored) + 20)
        batch = writes(*([Insert("c", {"_id": n})] for n in numbers), Upsert("state", {"_id": "last"}))
        with capture_logs() as lines:
            commit = asyncio.create_task(breaker.commit(batch))
            failures = breaker._stats.counters
            before = failures["documents_failures"]
            await until(lambda: failures["documents_failures"] > before + 10)  # noqa: B023
            assert not commit.done()
            fail(own_mongo, "off")
            assert await commit == {}
        assert [line["event"] for line in lines] == ["outage_begin", "outage_end"]
        stored += numbers
    assert sorted(d["_id"] for d in await breaker.sink.find("c", {})) == stored  # type: ignore[attr-defined]
    await close_client(client)


async def test_commands_that_take_longer_than_100_ms_are_counted(
    own_mongo: MongoProcess, driver: Driver
) -> None:
    slow = SlowCommands()
    client = mongo_client(own_mongo.url(), driver=driver, timeout=PATIENCE, slow=slow)
    sink = MongoDocuments(client, "db", slow=slow)
    fail(own_mongo, "alwaysOn", failCommands=["insert"], blockConnection=True, blockTimeMS=150)
    await sink.commit(writes(Insert("c", {"_id": 1})))
    assert slow.counts["insert"] == 1
    assert await sink.find("c", {})
    fail(own_mongo, "off")
    assert [metric.name for metric in await sink.metrics()] == ["enricher_mongo_slow_commands"]
    await close_client(client)


async def test_an_index_that_cannot_be_made_now_waits(own_mongo: MongoProcess, driver: Driver) -> None:
    client = mongo_client(own_mongo.url(), driver=driver, timeout=PATIENCE)
    breaker = CircuitBreaker(MongoDocuments(client, "db", [("c", (("n", 1),))]), QUICK, Clock(), Stats())
    fail(own_mongo, "alwaysOn", failCommands=["createIndexes"], errorCode=8000)
    opening = asyncio.create_task(breaker.open())
    await until(lambda: breaker.down_since is not None)
    assert not opening.done()
    fail(own_mongo, "off")
    await opening
    await close_client(client)


async def test_a_frozen_and_a_killed_mongo_are_outages_and_the_repeat_stores_once(
    own_mongo: MongoProcess, driver: Driver
) -> None:
    client = mongo_client(own_mongo.url(), driver=driver, timeout=0.3)
    sink = MongoDocuments(client, "db", [("c", (("n", 1),))])
    breaker = CircuitBreaker(sink, QUICK, Clock(), Stats())
    await breaker.open()
    batch = writes(*(Insert("c", {"_id": n, "n": n}, stored_again) for n in range(5)))
    own_mongo.pause()
    with pytest.raises(SinkUnavailable):
        await sink.commit(batch)
    own_mongo.resume()
    answers = await breaker.commit(batch)
    assert all(isinstance(a, Stored) for a in answers.values())
    own_mongo.kill()
    with pytest.raises(SinkUnavailable):
        await sink.commit(batch)
    with pytest.raises(SinkUnavailable):
        await sink.open()
    with pytest.raises(SinkUnavailable):
        await sink.find("c", {})
    own_mongo.start()
    assert len(await breaker.commit(batch)) == 5
    await close_client(client)
    with pymongo.MongoClient[dict[str, Any]](own_mongo.url()) as patient:
        assert [d["n"] for d in patient["db"]["c"].find(sort=[("n", 1)])] == [0, 1, 2, 3, 4]


async def test_a_server_that_the_driver_has_given_up_ends_what_waits_for_its_reply(
    own_mongo: MongoProcess, driver: Driver
) -> None:
    options = "&serverMonitoringMode=poll&heartbeatFrequencyMS=500&socketTimeoutMS=600000"
    client = mongo_client(own_mongo.url() + options, driver=driver, timeout=0.3)
    sink = MongoDocuments(client, "db")
    await sink.commit(writes(Insert("c", {"_id": 0})))
    own_mongo.pause()
    with pytest.raises(SinkUnavailable):
        await asyncio.wait_for(sink.commit(writes(Insert("c", {"_id": 1}))), PATIENCE)
    own_mongo.resume()
    assert await through_gate(sink, writes(Insert("c", {"_id": 1}))) == {}
    await close_client(client)


async def test_after_a_commit_that_was_cancelled_each_gets_its_own_reply(documents: MongoDocuments) -> None:
    await documents.commit(writes(Insert("c", {"_id": 0})))
    cut_off = asyncio.create_task(documents.commit(writes(Insert("c", {"_id": 1}))))
    await asyncio.sleep(0)
    cut_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cut_off
    again = writes(*(Insert("c", {"_id": n}, stored_again) for n in (0, 2)))
    assert await documents.commit(again) == {0: Stored({"_id": 0})}
    assert len(await documents.find("c", {"_id": {"$in": [0, 2]}})) == 2


async def test_a_server_that_was_never_there_is_an_outage(driver: Driver, tmp_path: Path) -> None:
    absent = MongoProcess(tmp_path / "never-started")
    client = mongo_client(absent.url(), driver=driver, timeout=0.2)
    with pytest.raises(SinkUnavailable, match="documents is unavailable: ServerSelectionTimeoutError"):
        await MongoDocuments(client, "db").commit(writes(Insert("c", {"_id": 1})))
    await close_client(client)
