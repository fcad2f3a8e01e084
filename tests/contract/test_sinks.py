"""What every sink promises, asked of the memory sinks and of the real ones alike."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from enricher.adapters.mongo import MongoDocuments, close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.sink import RedisLive
from enricher.engine.effects import (
    DropMembers,
    Effect,
    Insert,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
    Upsert,
)
from enricher.engine.ports import Claimed, Stored, Write
from tests.memory import MemoryDocuments, MemoryLive
from tests.rig import PATIENCE
from tests.servers import RedisProcess, redis_binaries


def writes(*effects: Effect | Sequence[Effect]) -> list[Write]:
    """One write for each argument."""
    return [Write([e] if isinstance(e, Effect) else list(e)) for e in effects]


# -- documents -----------------------------------------------------------------------------------------

Documents = MemoryDocuments | MongoDocuments


@pytest.fixture(params=["memory", "motor", "pymongo"])
async def documents(request: pytest.FixtureRequest) -> AsyncIterator[Documents]:
    if request.param == "memory":
        yield MemoryDocuments()
        return
    driver: Literal["motor", "pymongo"] = request.param
    client = mongo_client(request.getfixturevalue("mongo_url"), driver=driver, timeout=PATIENCE)
    sink = MongoDocuments(client, request.getfixturevalue("mongo_database"), [("c", (("n", -1),))])
    await sink.open()
    yield sink
    await close_client(client)


def stored_again(document: Any) -> list[Effect]:
    return [Publish("out", b"")]


async def test_an_insert_is_stored_and_needs_no_answer(documents: Documents) -> None:
    assert await documents.commit(writes(Insert("c", {"_id": 1, "n": 5}))) == {}
    assert await documents.find("c", {"_id": 1}) == [{"_id": 1, "n": 5}]


async def test_inserting_again_hands_back_what_was_stored(documents: Documents) -> None:
    await documents.commit(writes(Insert("c", {"_id": 1, "n": 5})))
    again = writes(Insert("c", {"_id": 2, "n": 1}), Insert("c", {"_id": 1, "n": 6}, stored_again))
    assert await documents.commit(again) == {1: Stored({"_id": 1, "n": 5})}
    assert sorted(d["n"] for d in await documents.find("c", {})) == [1, 5]


async def test_repeating_the_very_same_commit_changes_nothing(documents: Documents) -> None:
    batch = writes(*(Insert("c", {"_id": n, "n": n}, stored_again) for n in range(3)))
    assert await documents.commit(batch) == {}
    answers = await documents.commit(batch)
    assert answers == {n: Stored({"_id": n, "n": n}) for n in range(3)}
    assert len(await documents.find("c", {})) == 3


async def test_the_second_of_two_with_one_id_in_a_batch_gets_the_first(documents: Documents) -> None:
    batch = writes(
        Insert("c", {"_id": 1, "n": 5}, stored_again), Insert("c", {"_id": 1, "n": 6}, stored_again)
    )
    assert await documents.commit(batch) == {1: Stored({"_id": 1, "n": 5})}


async def test_a_duplicate_that_nobody_asks_about_needs_no_answer(documents: Documents) -> None:
    await documents.commit(writes(Insert("c", {"_id": 1, "n": 5})))
    assert await documents.commit(writes(Insert("c", {"_id": 1, "n": 6}))) == {}
    assert await documents.find("c", {}) == [{"_id": 1, "n": 5}]


async def test_an_upsert_replaces_the_whole_document(documents: Documents) -> None:
    await documents.commit(writes(Upsert("c", {"_id": 1, "n": 5, "old": True})))
    await documents.commit(writes(Upsert("c", {"_id": 1, "n": 4})))
    assert await documents.find("c", {}) == [{"_id": 1, "n": 4}]


async def test_a_guarded_upsert_lets_only_what_is_newer_through(documents: Documents) -> None:
    for revision, text in ((2, "first"), (1, "older"), (2, "same"), (3, "newer")):
        document = {"_id": 1, "revision": revision, "text": text}
        assert await documents.commit(writes(Upsert("c", document, guard="revision"))) == {}
    assert await documents.find("c", {}) == [{"_id": 1, "revision": 3, "text": "newer"}]


@pytest.mark.parametrize("guard", [None, "revision"])
async def test_an_upsert_need_not_create(documents: Documents, guard: str | None) -> None:
    await documents.commit(writes(Upsert("c", {"_id": 1, "revision": 2}, guard, create=False)))
    assert await documents.find("c", {}) == []
    await documents.commit(writes(Upsert("c", {"_id": 1, "revision": 1})))
    await documents.commit(writes(Upsert("c", {"_id": 1, "revision": 2}, guard, create=False)))
    assert await documents.find("c", {}) == [{"_id": 1, "revision": 2}]


@pytest.mark.parametrize("revisions", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
async def test_within_one_batch_the_newest_revision_wins_too(
    documents: Documents, revisions: tuple[int, ...]
) -> None:
    batch = writes(*(Upsert("c", {"_id": 1, "revision": r}, guard="revision") for r in revisions))
    assert await documents.commit(batch) == {}
    assert await documents.find("c", {}) == [{"_id": 1, "revision": 3}]


async def test_a_stored_document_without_the_guard_is_left_alone(documents: Documents) -> None:
    await documents.commit(writes(Upsert("c", {"_id": 1})))
    await documents.commit(writes(Upsert("c", {"_id": 1, "revision": 1}, guard="revision")))
    assert await documents.find("c", {}) == [{"_id": 1}]


async def test_numbers_come_back_as_they_were(documents: Documents) -> None:
    numbers = {"small": 1, "large": 2**62, "negative": -(2**40), "float": 0.5, "in": [{"side": 2**31}]}
    await documents.commit(writes(Insert("c", {"_id": 1, **numbers})))
    (found,) = await documents.find("c", {"_id": 1})
    assert msgspec.json.decode(msgspec.json.encode(found)) == {"_id": 1, **numbers}


async def test_one_commit_fills_several_collections(documents: Documents) -> None:
    several = [Insert("c", {"_id": 1}), Insert("d", {"_id": 1}), Upsert("e", {"_id": 1})]
    await documents.commit(writes(several, Insert("d", {"_id": 2})))
    assert [len(await documents.find(name, {})) for name in "cde"] == [1, 2, 1]


async def test_documents_are_read_back_by_range_order_and_limit(documents: Documents) -> None:
    await documents.commit(writes(*(Insert("c", {"_id": n, "n": n, "k": "ab"[n % 2]}) for n in range(10))))
    query = {"n": {"$gte": 2, "$lt": 9}, "k": {"$in": ["a"]}}
    found = await documents.find("c", query, sort=[("n", -1)], limit=3)
    assert [d["n"] for d in found] == [8, 6, 4]


async def test_effects_for_other_sinks_are_none_of_its_business(documents: Documents) -> None:
    assert await documents.commit(writes(Publish("out", b""), [])) == {}
    assert await documents.commit([]) == {}


class Unheard(Effect, frozen=True, gc=False):
    sink: ClassVar[str] = "documents"


async def test_an_unknown_document_effect_is_loud(documents: Documents) -> None:
    with pytest.raises(TypeError, match="cannot write Unheard"):
        await documents.commit(writes(Unheard()))


# -- what is visible -----------------------------------------------------------------------------------


class Watched:
    """A live sink with what can be seen of it from outside."""

    def __init__(self, sink: MemoryLive | RedisLive) -> None:
        self.sink = sink

    async def commit(self, *effects: Effect | Sequence[Effect]) -> dict[int, Any]:
        return dict(await self.sink.commit(writes(*effects)))

    async def value(self, key: str) -> bytes | None:
        assert isinstance(self.sink, MemoryLive)
        return self.sink.keys.get(key)

    async def members(self, key: str) -> list[tuple[bytes, float]]:
        assert isinstance(self.sink, MemoryLive)
        return self.sink.sorted_set(key)

    async def published(self) -> list[tuple[str, bytes]]:
        """What was published since the last call."""
        assert isinstance(self.sink, MemoryLive)
        news, self.sink.published = self.sink.published, []
        return news


class WatchedRedis(Watched):
    def __init__(self, client: Redis) -> None:
        super().__init__(RedisLive(client))
        self.client = client
        self._pubsub = client.pubsub()
        self._end = f"end:{uuid.uuid4().hex}"

    async def listen(self) -> None:
        await self.sink.open()
        await self._pubsub.psubscribe("out*", self._end)
        for _ in range(2):
            assert await self._pubsub.get_message(timeout=PATIENCE), "not subscribed"

    async def stop(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def value(self, key: str) -> bytes | None:
        found = await self.client.get(key)
        assert not isinstance(found, str)
        return found

    async def members(self, key: str) -> list[tuple[bytes, float]]:
        found: list[Any] = list(await self.client.zrange(key, 0, -1, withscores=True))
        return found

    async def published(self) -> list[tuple[str, bytes]]:
        await self.client.publish(self._end, b"")
        news: list[tuple[str, bytes]] = []
        while True:
            reply = await self._pubsub.get_message(timeout=PATIENCE)
            assert reply is not None
            if reply["channel"] == self._end.encode():
                return news
            news.append((reply["channel"].decode(), reply["data"]))


@asynccontextmanager
async def watched_redis(url: str) -> AsyncIterator[WatchedRedis]:
    client = redis_client(url, socket_timeout=PATIENCE)
    try:
        live = WatchedRedis(client)
        await live.listen()
        yield live
        await live.stop()
    finally:
        await client.aclose()


@pytest.fixture(params=["memory", *redis_binaries()])
async def live(
    request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess]
) -> AsyncIterator[Watched]:
    if request.param == "memory":
        yield Watched(MemoryLive())
        return
    redis_processes[request.param].flush()
    async with watched_redis(redis_processes[request.param].url) as found:
        yield found


async def test_a_message_is_published_once_per_claimed_value(live: Watched) -> None:
    first = [Publish("out", b"1"), KeyClaim("k", 1_000_000_000, 60)]
    assert await live.commit(first) == {}
    assert await live.commit(first) == {0: Claimed()}
    assert await live.commit([Publish("out", b"2"), KeyClaim("k", 2_000_000_000, 60)]) == {}
    assert await live.published() == [("out", b"1"), ("out", b"2")]


async def test_a_message_is_published_once_per_claimed_member(live: Watched) -> None:
    batch = [[SetClaim("s", m, 60), Publish("out", m.encode())] for m in ("x", "y", "x")]
    assert await live.commit(*batch) == {2: Claimed()}
    assert await live.commit(*batch) == {0: Claimed(), 1: Claimed(), 2: Claimed()}
    assert await live.published() == [("out", b"x"), ("out", b"y")]


async def test_a_message_without_a_claim_is_published_each_time(live: Watched) -> None:
    for _ in range(2):
        assert await live.commit(Publish("out", b"x")) == {}
    assert len(await live.published()) == 2


async def test_the_last_eight_values_stay_claimed(live: Watched) -> None:
    values = [1_750_000_000_000_000 + n for n in range(9)]
    for value in values:
        assert await live.commit(KeyClaim("k", value, 60)) == {}
    for value in values[1:]:
        assert await live.commit(KeyClaim("k", value, 60)) == {0: Claimed()}
    assert await live.commit(KeyClaim("k", values[0], 60)) == {}


async def test_every_claim_of_a_write_is_made_also_after_one_was_lost(live: Watched) -> None:
    await live.commit(SetClaim("s", "taken", 60))
    both = [SetClaim("s", "taken", 60), SetClaim("s", "new", 60), Publish("out", b"")]
    assert await live.commit(both) == {0: Claimed()}
    assert await live.commit(SetClaim("s", "new", 60)) == {0: Claimed()}
    assert await live.published() == []


async def test_a_claimed_message_still_refreshes_its_caches(live: Watched) -> None:
    await live.commit(SetClaim("s", "m", 60))
    assert await live.commit([SetClaim("s", "m", 60), SetKey("k", b"v", 0)]) == {0: Claimed()}
    assert await live.value("k") == b"v"


@pytest.mark.parametrize("together", [True, False])
async def test_an_older_version_loses_and_an_equal_one_wins(live: Watched, together: bool) -> None:
    sets = [SetKey("k", value, 60_000, version) for value, version in ((b"a", 5), (b"b", 4), (b"c", 5))]
    for batch in [sets] if together else [[s] for s in sets]:
        await live.commit(*batch)
    assert await live.value("k") == b"c"
    await live.commit(SetKey("k", b"late", 60_000, 1))
    assert await live.value("k") == b"c"


async def test_without_a_version_the_last_one_wins(live: Watched) -> None:
    await live.commit(SetKey("k", b"a", 0), SetKey("k", b"b", 0))
    assert await live.value("k") == b"b"
    await live.commit(SetKey("k", b"c", 0))
    assert await live.value("k") == b"c"


def member(field: str, text: bytes, version: int, score: float = 100.0) -> SetMember:
    twin = field[:-1] + ("P" if field.endswith("C") else "C")
    return SetMember("z", field, twin, text, score, version)


async def test_a_field_holds_one_member_of_a_sorted_set(live: Watched) -> None:
    await live.commit(member("1C", b"a", 1), member("2C", b"b", 1, 50.5), member("1C", b"c", 2))
    assert await live.members("z") == [(b"b", 50.5), (b"c", 100.0)]
    await live.commit(member("1C", b"older", 1), member("1C", b"equal", 2))
    assert await live.members("z") == [(b"b", 50.5), (b"equal", 100.0)]


async def test_a_member_that_the_twin_also_holds_stays(live: Watched) -> None:
    await live.commit(member("1C", b"same", 1), member("1P", b"same", 1))
    assert await live.members("z") == [(b"same", 100.0)]
    await live.commit(member("1C", b"new", 2))
    assert await live.members("z") == [(b"new", 100.0), (b"same", 100.0)]
    await live.commit(member("1P", b"new", 2))
    assert await live.members("z") == [(b"new", 100.0)]


async def test_an_empty_member_removes_and_keeps_its_version(live: Watched) -> None:
    await live.commit(member("1C", b"a", 1), member("1C", b"", 3), member("1C", b"b", 2))
    assert await live.members("z") == []
    await live.commit(member("1C", b"c", 3))
    assert await live.members("z") == [(b"c", 100.0)]


async def test_fields_that_sort_before_a_limit_are_dropped(live: Watched) -> None:
    await live.commit(*(member(f"{day}C", day.encode(), 1) for day in ("2025-01", "2025-02", "2025-03")))
    await live.commit(DropMembers("z", "2025-03"), DropMembers("none", "x"))
    assert [m for m, _ in await live.members("z")] == [b"2025-03"]
    await live.commit(member("2025-01C", b"again", 0))
    assert (b"again", 100.0) in await live.members("z")


async def test_a_large_commit_is_published_in_order(live: Watched) -> None:
    await live.commit(*(Publish("out", b"%d" % n) for n in range(350)))
    assert [text for _, text in await live.published()] == [b"%d" % n for n in range(350)]


async def test_writes_with_nothing_visible_are_passed_over(live: Watched) -> None:
    assert await live.commit(Insert("c", {"_id": 1}), [], Publish("out", b"x"), []) == {}
    assert await live.commit() == {}
    assert await live.published() == [("out", b"x")]


class UnheardLive(Effect, frozen=True, gc=False):
    sink: ClassVar[str] = "live"


async def test_an_unknown_visible_effect_is_loud(live: Watched) -> None:
    with pytest.raises(TypeError, match="cannot write UnheardLive"):
        await live.commit(UnheardLive())


# -- the law: memory and Redis cannot be told apart ------------------------------------------------------

SMALL = st.integers(1_000_000, 1_000_003)
TEXT = st.sampled_from([b"x", b"y", b"z"])
MEMBER = TEXT | st.just(b"")  # fields that are no twins never hold the same
FIELD = st.sampled_from(["1C", "1P", "2C", "2P"])
EFFECTS = st.one_of(
    st.builds(KeyClaim, st.sampled_from(["k1", "k2"]), st.integers(1_000_000, 1_000_010), st.just(60)),
    st.builds(SetClaim, st.just("s"), st.sampled_from("abc"), st.just(60)),
    st.builds(SetKey, st.sampled_from(["v1", "v2"]), TEXT, st.just(0), SMALL),
    st.builds(SetKey, st.just("plain"), TEXT, st.just(0)),
    st.builds(
        lambda field, text, version: member(field, text and field[:1].encode() + text, version),
        FIELD,
        MEMBER,
        SMALL,
    ),
    st.builds(DropMembers, st.just("z"), st.sampled_from(["1D", "2", "3"])),
    st.builds(Publish, st.sampled_from(["out1", "out2"]), TEXT),
)
COMMITS = st.lists(st.lists(st.lists(EFFECTS, max_size=4), max_size=5), max_size=6)

Seen = tuple[list[dict[int, Any]], list[tuple[str, bytes]], list[bytes | None], list[tuple[bytes, float]]]


async def outcome(live: Watched, commits: list[list[list[Effect]]]) -> Seen:
    answers = [await live.commit(*batch) for batch in commits]
    values = [await live.value(key) for key in ("v1", "v2", "plain")]
    return answers, await live.published(), values, await live.members("z")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=COMMITS)
def test_memory_and_redis_give_the_same_answers_for_any_effects(
    redis_processes: dict[str, RedisProcess], commits: list[list[list[Effect]]]
) -> None:
    async def real(opened: Callable[[], AbstractAsyncContextManager[WatchedRedis]]) -> Seen:
        async with opened() as live:
            return await outcome(live, commits)

    server = redis_processes["valkey"]
    server.flush()
    expected = asyncio.run(outcome(Watched(MemoryLive()), commits))
    assert asyncio.run(real(lambda: watched_redis(server.url))) == expected
