"""What every store of dead letters must do, and what retrying makes of it: list, stream and a third."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.dead_letters.base import PAGE
from enricher.adapters.redis.sink import RedisLive
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup
from enricher.dead_letters import (
    DeadLetter,
    DeadLetterSink,
    DepthAlarm,
    Edit,
    FieldFilter,
    LengthAlert,
    LetterFilter,
    LetterStore,
    ListLetterStore,
    Outcome,
    RateLimit,
    StopRule,
    StoredLetter,
    StreamLetterStore,
    TargetStream,
    UnknownLetter,
    encode,
    here,
    retry,
)
from enricher.dead_letters.replay import fresh_task_id, retry_letter
from enricher.engine.effects import Ack, Delay
from enricher.engine.ports import Write
from enricher.errors import EnricherError
from tests.rig import PATIENCE, dead_letter
from tests.toy_letters import SqliteLetters

MOST = 2 * PAGE + 5
Process = Callable[[str, bytes, str], Awaitable[str]]


def letter(number: int, *, topic: str = "orders", error: str = "no", task_id: str = "") -> DeadLetter:
    """A dead letter of the ``number``-th second."""
    at = 1_700_000_000_000_000 + number * 1_000_000
    known = {"task_id": task_id or f"letter-{number:04}", "body": json.dumps({"n": number}).encode()}
    return dead_letter(**known, topic=topic, error=error, first_us=at, last_us=at)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url, socket_timeout=PATIENCE) as found:
        yield found


@pytest.fixture(params=["list", "stream", "third"])
def store(request: pytest.FixtureRequest, client: Redis) -> LetterStore:
    if request.param == "third":
        return SqliteLetters(most=MOST)
    kind = ListLetterStore if request.param == "list" else StreamLetterStore
    return kind(client, "letters", max_length=MOST)


async def numbers(store: LetterStore) -> list[int]:
    """The numbers of the letters' messages, newest first; positions must be in order."""
    found = [each async for each in store.letters()]
    assert [each.position for each in found] == list(range(len(found)))
    return [each.message["n"] for each in found]


async def filled(store: LetterStore, count: int) -> None:
    for number in range(count):
        await store.add(letter(number))


def ends(
    store: LetterStore, label: Callable[[int], str], seen: list[int] | None = None
) -> Process:
    """A way to process by the message's number; one that fails becomes a dead letter of the store again."""

    async def attempt(topic: str, body: bytes, identity: str) -> str:
        number = json.loads(body)["n"]
        if seen is not None:
            seen.append(number)
        found = label(number)
        if found == "dead":
            task_id = fresh_task_id(topic, identity)
            await store.add(letter(number, topic=topic, error="again", task_id=task_id))
        return found

    return attempt


async def test_a_letter_is_stored_once_and_the_newest_is_first(store: LetterStore) -> None:
    assert (await store.add(letter(1))).new
    again = await store.add(letter(1))
    assert (again.new, again.length, again.evicted) == (False, 1, 0)
    assert (await store.add(letter(2))).length == 2
    assert await numbers(store) == [2, 1]
    assert [each.task_id for each in await store.peek(1)] == ["letter-0002"]
    assert await store.count() == 2


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_a_letter_may_be_made_of_bytes(store: LetterStore, kind: Any) -> None:
    given = letter(1)
    plain = structs.asdict(given)
    texts = {name: kind(value.encode()) for name, value in plain.items() if type(value) is str}
    await store.add(DeadLetter(**{**plain, **texts, "body": kind(given.body)}))
    fields = {b"raw": kind(b"Subject: s"), b"scan": kind(b"\xff")}
    await store.add(structs.replace(letter(2), body=fields))
    assert not (await store.add(given)).new
    found = await store.get(kind(b"letter-0001"))
    assert encode(given) == found.raw
    wanted = LetterFilter(topic=kind(b"ord*"), fields=(FieldFilter(kind(b"n"), kind(b"1")),))
    assert await store.peek(9, wanted) == [found]
    assert (await store.get("0")).message == {"raw": "Subject: s", "scan": {"base64": "/w=="}}
    edit = Edit(set=((kind(b"n"), kind(b"7")),), drop=(kind(b"m"),))
    seen: list[int] = []
    good = ends(store, lambda n: "processed", seen)
    assert (await retry_letter(store, found, good, edit)).label == "processed"
    assert seen == [7]


async def test_the_oldest_fall_off_a_full_store_and_are_counted(store: LetterStore) -> None:
    await filled(store, MOST)
    added = [await store.add(letter(MOST + n)) for n in range(3)]
    assert [(a.length, a.evicted) for a in added] == [(MOST, 1)] * 3
    assert await store.evicted() == 3
    assert await numbers(store) == list(range(MOST + 2, 2, -1))


async def test_letters_are_found_by_position_id_and_filter(store: LetterStore) -> None:
    await filled(store, 5)
    assert (await store.get("4")).task_id == "letter-0000"
    assert (await store.get("letter-0003")).position == 1
    wanted = {"5": "there are 5", "letter": "5 dead letters begin", "nobody": "no dead letter", "l": "4"}
    for wrong, why in wanted.items():
        with pytest.raises(UnknownLetter, match=why):
            await store.get(wrong)
    wanted = LetterFilter(fields=(FieldFilter("n", "3"),), topic="ord*", since_us=1_700_000_003_000_000)
    assert [each.message["n"] for each in await store.peek(10, wanted)] == [3]
    assert await store.peek(0) == []
    await store.add(letter(9, task_id="aaaa-9"))
    assert (await store.get("aaaa")).message == {"n": 9}


async def test_removing_and_replacing_touch_one_entry_and_say_if_it_was_gone(store: LetterStore) -> None:
    await filled(store, 4)
    one, two = await store.get("letter-0001"), await store.get("letter-0002")
    assert await store.remove(one)
    assert not await store.remove(one)
    assert not await store.replace(one, b"{}", two)
    assert sorted(await numbers(store)) == [0, 2, 3]
    assert await store.replace(await store.get("letter-0003"), one.raw, two)
    assert sorted(await numbers(store)) == [0, 1]


async def test_what_is_processed_goes_and_what_fails_again_stays_once(store: LetterStore) -> None:
    await filled(store, 3)
    odd = ends(store, lambda n: "dead" if n == 1 else "processed")
    report = await retry(store, here(store, odd))
    assert (report.meant, report.gone, dict(report.outcomes)) == (3, 2, {"processed": 2, "failed": 1})
    stays = await store.get("letter-0001")
    assert (await store.count(), stays.attempts, stays.error) == (1, 2, "again")
    assert (await retry(store, here(store, odd))).gone == 0
    assert ((await store.get("0")).attempts, await store.count()) == (3, 1)


async def test_in_a_full_store_a_letter_that_fails_again_pushes_nothing_out(store: LetterStore) -> None:
    await filled(store, MOST)
    attempt = here(store, ends(store, lambda n: "dead"))
    report = await retry(store, attempt, limit=30, rate_limit=RateLimit(stop=None))
    assert dict(report.outcomes) == {"failed": 30}
    assert (await store.evicted(), await store.count()) == (0, MOST)
    assert sorted(await numbers(store)) == list(range(MOST))
    assert (await store.add(letter(MOST))).evicted == 1


async def test_a_dry_run_counts_by_kind_and_touches_nothing(store: LetterStore) -> None:
    await filled(store, 3)
    await store.add(letter(9, topic="mails"))

    async def never(found: StoredLetter) -> Outcome:
        raise AssertionError(found)

    report = await retry(store, never, dry_run=True)
    expected = {("orders", "enrich", "ValueError"): 3, ("mails", "enrich", "ValueError"): 1}
    assert (report.meant, report.tried, dict(report.kinds)) == (4, 0, expected)
    assert await store.count() == 4


async def test_letters_are_reprocessed_oldest_first_though_the_newest_are_chosen(store: LetterStore) -> None:
    await filled(store, MOST)
    seen: list[int] = []
    attempt = here(store, ends(store, lambda n: "processed", seen))
    await retry(store, attempt, limit=PAGE + 3, rate_limit=RateLimit(at_once=1))
    assert seen == list(range(MOST - PAGE - 3, MOST))
    assert await numbers(store) == list(range(MOST - PAGE - 4, -1, -1))


async def test_it_stops_by_itself_when_too_many_of_the_last_ones_fail_again(store: LetterStore) -> None:
    await filled(store, 60)
    seen: list[int] = []
    attempt = here(store, ends(store, lambda n: "dead" if n >= 20 else "processed", seen))
    rate_limit = RateLimit(at_once=1, stop=StopRule(share=0.5, last=10))
    report = await retry(store, attempt, rate_limit=rate_limit)
    assert seen == list(range(25))
    assert (report.tried, report.untried, report.gone) == (25, 35, 20)
    assert report.stopped == "5 of the last 10 were not processed"
    assert await store.count() == 40


async def test_when_nobody_answers_it_does_not_go_on(store: LetterStore) -> None:
    await filled(store, 30)
    report = await retry(store, here(store, ends(store, lambda n: "lost")), rate_limit=RateLimit(at_once=1))
    assert (report.tried, report.stopped) == (3, "3 in a row were not answered")
    assert await store.count() == 30


async def test_the_rate_holds_however_fast_the_answers_are(store: LetterStore) -> None:
    await filled(store, 8)

    async def attempt(found: StoredLetter) -> Outcome:
        return Outcome("processed")

    loop = asyncio.get_running_loop()
    began = loop.time()
    report = await retry(store, attempt, rate_limit=RateLimit(rate=50))
    # A wait is never shorter than what was asked for, so this does not depend on the machine.
    assert (report.gone, loop.time() - began > 7 / 50) == (8, True)


async def test_an_error_of_the_way_is_passed_on_and_the_letters_stay(store: LetterStore) -> None:
    await filled(store, 3)

    async def attempt(found: StoredLetter) -> Outcome:
        raise OSError("no route to host")

    with pytest.raises(OSError, match="no route to host"):
        await retry(store, attempt)
    assert await store.count() == 3


async def test_an_edited_message_is_tried_and_the_letter_keeps_the_old_one(store: LetterStore) -> None:
    await filled(store, 1)
    seen: list[int] = []
    edit = Edit(set=(("n", "77"),))
    failing = ends(store, lambda n: "dead", seen)
    assert (await retry_letter(store, await store.get("0"), failing, edit)).label == "failed"
    assert (seen, await numbers(store)) == ([77], [0])
    good = ends(store, lambda n: "processed", seen)
    assert (await retry_letter(store, await store.get("0"), good, edit)).done
    assert (seen, await store.count()) == ([77, 77], 0)


async def test_a_worker_sets_aside_into_any_store_acknowledges_and_alerts_once(
    client: Redis, store: LetterStore
) -> None:
    alerts: list[LengthAlert] = []
    evicted: list[int] = []
    sink = DeadLetterSink(
        store,
        streams=client,
        watch=DepthAlarm(MOST - 2, alerts.append),
        on_evicted=evicted.append,
    )
    await client.xgroup_create("in", "g", "0", mkstream=True)
    id_ = (await client.xadd("in", {"body": b"1"})).decode()
    await client.xreadgroup("g", "c", {"in": ">"})
    await sink.open()
    for _ in range(2):
        await sink.commit([Write((letter(0), Ack("in", "g", id_)), label="dead")])
    assert (await client.xpending("in", "g"))["pending"] == 0
    await sink.commit([Write([letter(n)]) for n in range(1, MOST + 2)])
    assert alerts == [LengthAlert(store.name, MOST - 1, MOST - 2)]
    assert (await sink.count(), sink.evicted, evicted) == (MOST, 2, [1, 1])
    await sink.open()
    assert len(alerts) == 1


async def test_a_full_store_found_at_the_start_is_an_alert(store: LetterStore) -> None:
    await filled(store, 5)
    alerts: list[LengthAlert] = []
    await DeadLetterSink(store, watch=DepthAlarm(4, alerts.append)).open()
    assert [alert.length for alert in alerts] == [5]


async def test_without_a_group_a_message_moves_to_the_target_once(client: Redis, store: LetterStore) -> None:
    await filled(store, 2)
    target = TargetStream(store, client, "again")
    first = await store.get("letter-0000")
    assert [(await target(first)).label for _ in range(2)] == ["moved", "moved"]
    ((_, fields),) = await client.xrange("again")
    assert fields == {b"body": first.body, b"topic": b"orders"}
    assert await numbers(store) == [1]


async def test_with_a_group_the_letter_stays_until_the_group_has_finished_the_entry(
    client: Redis, store: LetterStore
) -> None:
    await filled(store, 1)
    await client.xgroup_create("again", "g", "0", mkstream=True)
    target = TargetStream(store, client, "again", group="g", seconds=0.1)
    found = await store.get("0")
    assert (await target(found)).label == "unanswered"
    ((_, ((id_, fields),)),) = await client.xreadgroup("g", "c", {"again": ">"})
    assert (await target(found)).label == "unanswered"
    assert await numbers(store) == [0]
    # It is put off among many others: acknowledged, and waiting to be tried again.
    keys, identity = GroupKeys("again", "g"), fields[b"enricher-id"]
    others = [Write((Delay(keys.later, 0, {b"enricher-id": b"%d" % n}),)) for n in range(1_000)]
    put_off = Delay(keys.later, 0, fields, keys.place(identity.decode()))
    await RedisLive(client).commit([*others, Write((put_off, Ack("again", "g", id_.decode())))])
    await client.config_resetstat()
    assert (await target(found)).label == "unanswered"
    asked = {name.removeprefix("cmdstat_") for name in await client.info("commandstats")}
    assert not asked & {"zrange", "zrangebyscore", "zscan", "xrange"}, "the delay set is not looked through"
    # It is due, and somebody has it.
    group = StreamGroup(client, keys, "c")
    await client.xgroup_create(keys.again, "g", "0", mkstream=True)
    await group.come_back(keys.again)
    came = await client.xreadgroup("g", "c", {keys.again: ">"})
    assert len(came[0][1]) == 1_001
    assert (await target(found)).label == "unanswered"
    assert await numbers(store) == [0]
    ((mine, _),) = [entry for entry in came[0][1] if entry[1][b"enricher-id"] == identity]
    await client.xack(keys.again, "g", mine)
    patient = TargetStream(store, client, "again", group="g", seconds=PATIENCE)
    assert (await patient(found)).label == "processed"
    assert (await store.count(), await client.xlen("again")) == (0, 1)


async def test_what_fails_again_on_the_target_is_merged_with_its_letter(
    client: Redis, store: LetterStore
) -> None:
    await filled(store, 1)
    await client.xgroup_create("again", "g", "0", mkstream=True)
    target = TargetStream(store, client, "again", group="g", seconds=PATIENCE)

    async def worker() -> None:
        ((_, ((id_, fields),)),) = await client.xreadgroup("g", "c", {"again": ">"}, block=50_000)
        identity = fields[b"enricher-id"].decode()
        await store.add(letter(0, error="again", task_id=fresh_task_id("orders", identity)))
        await client.xack("again", "g", id_)

    outcome, _ = await asyncio.gather(target(await store.get("0")), worker())
    assert outcome == Outcome("failed", "again")
    stays = await store.get("letter-0000")
    assert (await store.count(), stays.attempts, stays.error) == (1, 2, "again")


async def test_a_group_that_is_not_there_answers_nothing(client: Redis, store: LetterStore) -> None:
    await filled(store, 1)
    target = TargetStream(store, client, "again", group="nobody", seconds=PATIENCE)
    outcome = await target(await store.get("0"))
    assert (outcome.label, "has no group nobody" in outcome.error) == ("unanswered", True)
    assert await store.count() == 1


async def test_the_letters_own_stream_is_no_target(client: Redis) -> None:
    with pytest.raises(EnricherError, match="give another stream"):
        TargetStream(StreamLetterStore(client, "letters"), client, "letters")
