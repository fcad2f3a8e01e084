"""The life of one message through its handler: a write comes out, or a later attempt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator
from typing import Any

import anyio
import pytest

from enricher.engine.effects import Ack, DeadLetter, Effect, Insert, Publish
from enricher.engine.ports import Write
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Context, Route, Slots
from enricher.engine.threads import NotBegun, Threads
from enricher.errors import BadMessage, SinkUnavailable
from tests.rig import NOW_US, Rig, Steered, Sums, Told, echo, key_of, message, turns, until


def one_letter(rig: Rig) -> DeadLetter:
    assert len(rig.letters.letters) == 1
    return rig.letters.letters[0]


async def test_a_handler_sees_the_message_and_the_clock_at_receipt() -> None:
    seen: list[Context] = []

    def handler(event: Any, context: Context) -> list[Effect]:
        seen.append(context)
        return []

    rig = Rig(Route(topic="t", handler=handler))
    async with rig.engine:
        rig.clock.advance(3)
        rig.offer("t", number=1)
        await rig.drained()
    assert (seen[0].topic, seen[0].body, seen[0].attempt) == ("t", message("a", 1), 1)
    assert seen[0].now_us == NOW_US


async def test_sinks_that_can_prepare_are_given_the_write_of_a_large_message_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Write] = []
    monkeypatch.setattr(Steered, "prepare", lambda sink, write: given.append(write), raising=False)
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        rig.offer("t", number=1)
        large = rig.offer("t", number=2, text="x" * 10_000)
        await rig.drained()
    assert [write.delivery for write in given] == [large]


async def test_an_undecodable_message_is_set_aside_whole_with_its_bytes() -> None:
    rig = Rig(Route(topic="t", handler=echo, name="task"))
    async with rig.engine:
        delivery = Told("t", b"\xff{")
        rig.engine.pool.offer(delivery)
        await rig.drained()
    letter = one_letter(rig)
    assert (letter.body, letter.topic, letter.stage, letter.path) == (b"\xff{", "t", "decode", "$")
    assert (letter.error_type, letter.task_name, letter.attempts) == ("BadMessage", "task", 1)
    assert (letter.first_us, letter.last_us) == (NOW_US, NOW_US)
    assert "JSON in UTF-8" in letter.error
    assert delivery.ends == ["dead"]
    assert rig.counts("t") == {"received": 1, "dead": 1}


async def test_a_dead_letter_shows_no_password_of_what_its_handler_raised() -> None:
    def handler(event: Any, context: Context) -> list[Effect]:
        raise ConnectionError("cannot reach redis://me:hunter2@h")

    rig = Rig(Route(topic="t", handler=handler))
    await rig.take(1)
    letter = one_letter(rig)
    assert letter.error == "cannot reach redis://me:***@h"
    assert "redis://me:***@h" in letter.traceback
    assert "hunter2@h" not in letter.traceback


async def test_what_a_source_sets_aside_is_a_dead_letter_once_and_counted_under_its_route() -> None:
    rig = Rig(Route(topic="t", handler=echo, name="task"))
    async with rig.engine:
        for topic in ("t", "t", "nobody's"):
            delivery = Told(topic, b"?")
            delivery.id, delivery.attempts = "in/g/5-1", 3
            rig.engine.pool.set_aside(delivery, "poison", ValueError("no"), "intake")
        await rig.drained()
        assert rig.engine.pool.count == 0
    found = {letter.task_id: letter for letter in rig.letters.letters}
    assert sorted((x.topic, x.task_name, x.stage, x.attempts) for x in found.values()) == [
        ("nobody's", "intake", "poison", 3),
        ("t", "task", "poison", 3),
    ]
    assert rig.counts("t") == {"received": 2, "dead": 2}
    assert rig.counts("(unknown)") == {"received": 1, "dead": 1}


async def test_a_message_whose_acknowledgement_cannot_land_is_a_dead_letter_that_says_so() -> None:
    class Entry(Told):
        def ack(self) -> list[Effect]:
            return [Ack("in", "g", "5-1")]

    rig = Rig(Route(topic="t", handler=lambda event, context: [], sinks=("documents",)))
    async with rig.engine:
        delivery = Entry("t", message("a", 1))
        rig.engine.pool.offer(delivery)
        await rig.drained()
    assert one_letter(rig).error == "effect Ack wants sink 'live'; route 't' has: documents"
    assert delivery.ends == ["dead"]


async def test_a_handler_that_raises_leaves_its_traceback_and_the_others_go_on() -> None:
    def handler(event: Any, context: Context) -> list[Effect]:
        if event["n"] == 1:
            raise KeyError("volume")
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of))
    await rig.take(*range(3))
    letter = one_letter(rig)
    assert (letter.stage, letter.error_type, letter.key) == ("enrich", "KeyError", "a")
    assert "in handler" in letter.traceback
    assert rig.numbers("a") == [0, 2]


async def test_a_bad_message_says_where_it_is_bad() -> None:
    def handler(event: Any, context: Context) -> list[Effect]:
        raise BadMessage("$.price", "a positive number", "-1")

    rig = Rig(Route(topic="t", handler=handler))
    await rig.take(0)
    assert one_letter(rig).path == "$.price"


async def test_an_effect_without_its_sink_is_loud() -> None:
    rig = Rig(Route(topic="t", handler=lambda event, context: [Insert("c", {"_id": 1})], sinks=("live",)))
    await rig.take(0)
    assert "effect Insert wants sink 'documents'" in one_letter(rig).error
    assert rig.stored.collections == {}


@pytest.mark.parametrize(
    "returned", [Publish("out", b""), {"a": 1}, "text", [None], [Publish], [[Publish("out", b"")]], 7]
)
async def test_a_handler_that_returns_no_effects_is_told_so(returned: Any) -> None:
    rig = Rig(Route(topic="t", handler=lambda event, context: returned))
    await rig.take(0)
    letter = one_letter(rig)
    assert letter.error.startswith("a handler returns a list of effects; that of 't' returned ")
    assert (letter.stage, letter.error_type) == ("enrich", "TypeError")
    assert not rig.shown.published


async def test_an_error_within_lazy_effects_stays_what_it_is() -> None:
    def lazy(event: Any, context: Context) -> Iterator[Effect]:
        return (Publish("out", 1 + text) for text in event)

    rig = Rig(Route(topic="t", handler=lazy))
    await rig.take(0)
    assert "unsupported operand" in one_letter(rig).error


async def test_a_handler_may_have_nothing_to_say() -> None:
    rig = Rig(Route(topic="t", handler=lambda event, context: None))
    (delivery,) = await rig.take(0)
    assert delivery.ends == ["processed"]


async def test_a_generator_gives_the_loop_a_turn_at_each_yield() -> None:
    loop_turns, at_step = 0, list[int]()

    def handler(event: Any, context: Context) -> Generator[None, None, list[Effect]]:
        for _ in range(4):
            at_step.append(loop_turns)
            yield
        return [Publish("out", context.body)]

    async def bystander() -> None:
        nonlocal loop_turns
        while len(at_step) < 4:
            loop_turns += 1
            await asyncio.sleep(0)

    rig = Rig(Route(topic="t", handler=handler))
    async with rig.engine, asyncio.TaskGroup() as tasks:
        tasks.create_task(bystander())
        await turns(3)
        rig.offer("t", number=7)
        await rig.drained()
    assert at_step == sorted(set(at_step))
    assert rig.numbers("a") == [7]


async def test_a_generator_that_yields_its_effects_is_told_to_return_them() -> None:
    def handler(event: Any, context: Context) -> Iterator[Effect]:
        yield Publish("out", context.body)

    rig = Rig(Route(topic="t", handler=handler))
    await rig.take(0)
    assert "yields None and returns its effects" in one_letter(rig).error
    assert rig.shown.published == []


async def test_an_attempt_that_takes_too_long_fails_and_is_tried_again() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        if context.attempt == 1:
            await asyncio.sleep(60)
        return [Publish("out", context.body)]

    policy = RetryPolicy(max_retries=1, base=1, jitter="none")
    rig = Rig(Route(topic="t", handler=handler, timeout=0.02, retry=policy))
    async with rig.engine:
        rig.offer("t", number=1)
        await until(lambda: rig.counts("t").get("retried"))
        rig.clock.advance(1)
        await until(lambda: rig.numbers("a"))


async def test_the_last_attempt_that_times_out_makes_a_dead_letter() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        await asyncio.sleep(60)
        return []

    rig = Rig(Route(topic="t", handler=handler, timeout=0.01, retry=RetryPolicy(max_retries=0)))
    await rig.take(0)
    assert one_letter(rig).error_type == "TimeoutError"


async def test_a_server_that_is_away_uses_up_no_attempt() -> None:
    attempts: list[int] = []

    async def handler(event: Any, context: Context) -> list[Effect]:
        attempts.append(context.attempt)
        if len(attempts) <= 3:
            raise SinkUnavailable("documents", "refused")
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, retry=RetryPolicy(max_retries=0)))
    async with rig.engine:
        rig.offer("t", number=1)
        for outages in (1, 2, 3):
            await until(lambda outages=outages: rig.counts("t").get("retried") == outages)
            rig.clock.advance(1)
        await until(lambda: rig.numbers("a"))
    assert attempts == [1, 1, 1, 1]
    assert rig.letters.letters == []


async def test_a_blocking_handler_runs_in_a_thread_and_the_loop_goes_on() -> None:
    release, threads = threading.Event(), set[int]()

    def handler(event: Any, context: Context) -> list[Effect]:
        threads.add(threading.get_ident())
        assert release.wait(5)
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="slow", handler=handler, blocking=True), Route(topic="quick", handler=echo))
    async with rig.engine:
        rig.offer("slow", "s", 1)
        await until(lambda: threads)
        rig.offer("quick", "q", 2)
        await until(lambda: rig.numbers("q") == [2])
        assert rig.numbers("s") == []
        release.set()
        await rig.drained()
    assert rig.numbers("s") == [1]
    assert threading.get_ident() not in threads


async def test_blocking_routes_have_a_limiter_each() -> None:
    release, running, most = threading.Event(), dict.fromkeys("ab", 0), dict.fromkeys("ab", 0)
    lock = threading.Lock()

    def handler(event: Any, context: Context) -> list[Effect]:
        with lock:
            running[context.topic] += 1
            most[context.topic] = max(most[context.topic], running[context.topic])
        assert release.wait(5)
        with lock:
            running[context.topic] -= 1
        return []

    rig = Rig(*(Route(topic=t, handler=handler, blocking=True, max_concurrency=2) for t in "ab"))
    async with rig.engine:
        for number in range(6):
            rig.offer("a", str(number))
            rig.offer("b", str(number))
        await until(lambda: running == {"a": 2, "b": 2})
        await turns()
        release.set()
        await rig.drained()
    assert most == {"a": 2, "b": 2}


async def test_blocking_routes_of_one_share_have_its_threads_between_them() -> None:
    release, begun = threading.Event(), list[str]()

    def handler(event: Any, context: Context) -> list[Effect]:
        begun.append(context.topic)
        assert len(begun) > 2 or release.wait(60)
        return []

    jobs, never = Slots("jobs", 2), RetryPolicy(max_retries=0)
    of_share: dict[str, Any] = {"handler": handler, "blocking": True, "slots": jobs, "retry": never}
    hangs = Route(topic="hangs", timeout=0.5, **of_share)
    rig = Rig(hangs, Route(topic="waits", **of_share), Route(topic="beside", handler=handler, blocking=True))
    async with rig.engine:
        for number in range(2):
            rig.offer("hangs", number=number)
        await until(lambda: len(rig.letters.letters) == 2)
        rig.offer("waits")
        await until(lambda: rig.engine.pool.handling)
        await turns(50)
        assert begun == ["hangs", "hangs"]  # whose threads go on, though nobody waits for them
        rig.offer("beside")
        await until(lambda: rig.counts("beside").get("processed"))
        release.set()
        await rig.drained()
    assert begun == ["hangs", "hangs", "beside", "waits"]


async def test_a_blocking_handler_that_times_out_does_not_hold_its_slot() -> None:
    release = threading.Event()

    def handler(event: Any, context: Context) -> list[Effect]:
        release.wait(5)
        return []

    rig = Rig(
        Route(topic="t", handler=handler, blocking=True, timeout=0.3, retry=RetryPolicy(max_retries=0))
    )
    async with rig.engine:
        rig.offer("t")
        await rig.drained()
        release.set()
    assert one_letter(rig).error_type == "TimeoutError"


async def test_a_thread_that_hangs_after_its_timeout_counts_until_it_ends() -> None:
    release, begun = threading.Event(), list[str]()

    def handler(event: Any, context: Context) -> list[Effect]:
        begun.append(context.body.decode())
        assert len(begun) > 2 or release.wait(5)
        return [Publish("out", context.body)]

    never = RetryPolicy(max_retries=0)
    rig = Rig(Route(topic="t", handler=handler, blocking=True, max_concurrency=2, timeout=0.2, retry=never))
    async with rig.engine:
        for number in range(4):
            rig.offer("t", "k" + str(number), number)
        await until(lambda: len(rig.letters.letters) == 2)
        await turns(50)
        assert len(begun) == 2  # the other two wait for a thread, and are not to blame
        release.set()
        await rig.drained()
    assert len(begun) == 4
    assert {letter.error_type for letter in rig.letters.letters} == {"TimeoutError"}
    assert len(rig.letters.letters) == 2


async def test_a_call_that_is_given_up_before_its_thread_has_begun_leaves_the_thread_to_others() -> None:
    threads, release = Threads(1), threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, release.wait, (5,), None)
        await until(lambda: len(threads._begun) == 1)
        with anyio.move_on_after(0.01):
            await threads.run(release.wait, (5,), None)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await threads.run(release.wait, (5,), None)
        release.set()
    await until(lambda: len(threads._begun) == 0)
    assert await threads.run(sorted, ([2, 1],), 5.0) == [1, 2]


async def test_a_call_whose_time_is_up_before_the_machine_has_begun_it_was_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, called = Threads(1), list[int]()
    with monkeypatch.context() as busy:
        busy.setattr("anyio.to_thread.run_sync", lambda *given, **options: anyio.sleep_forever())
        with pytest.raises(NotBegun):
            await threads.run(called.append, (1,), 0.01)
    await threads.run(called.append, (2,), 60.0)
    assert called == [2]


@pytest.mark.parametrize("entry", ["5-1", None])
async def test_a_redelivered_stream_entry_is_set_aside_once_and_a_repeated_publish_twice(
    entry: str | None,
) -> None:
    rig = Rig(Route(topic="t", handler=echo))
    async with rig.engine:
        for _ in range(2):
            rig.engine.pool.offer(Told("t", b"{", id=entry))
        await rig.drained()
    assert len(rig.letters.letters) == (1 if entry else 2)


async def test_a_dead_letter_counts_every_attempt_and_keeps_the_first_and_last_time() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        raise OSError("away")

    rig = Rig(Route(topic="t", handler=handler, retry=RetryPolicy(jitter="none")))
    async with rig.engine:
        rig.offer("t")
        for number, delay in enumerate((5, 10, 20), 1):
            await until(lambda n=number: rig.counts("t").get("retried") == n)  # type: ignore[misc]
            assert rig.letters.letters == []
            rig.clock.advance(delay)
        await until(lambda: rig.letters.letters)
    letter = one_letter(rig)
    assert (letter.attempts, letter.error, letter.error_type) == (4, "away", "OSError")
    assert (letter.first_us, letter.last_us) == (NOW_US, NOW_US + 35_000_000)


class InSteps:
    """A pure handler with state, whose even messages take four steps; knows how often the loop had turned."""

    def __init__(self) -> None:
        self.loop_turns = 0
        self.at_step: list[int] = []
        self.fails_on: int | None = None

    def __call__(self, state: Any, event: Any, context: Context) -> Any:
        if event["n"] % 2:
            return event["n"], [Publish("out", context.body)]
        return self.steps(event, context)

    def steps(self, event: Any, context: Context) -> Generator[None, None, tuple[int, list[Effect]]]:
        for _ in range(4):
            self.at_step.append(self.loop_turns)
            yield
        if event["n"] == self.fails_on:
            raise ValueError("halfway")
        return event["n"], [Publish("out", context.body)]

    async def watch(self) -> None:
        while True:
            self.loop_turns += 1
            await asyncio.sleep(0)


async def after_steps(handler: InSteps, state_store: Sums, count: int) -> Rig:
    rig = Rig(Route(topic="t", handler=handler, key=key_of, state_store=state_store))
    async with rig.engine:
        beside = asyncio.create_task(handler.watch())
        await turns(3)
        for number in range(count):
            rig.offer("t", number=number)
        await rig.drained()
        beside.cancel()
    return rig


async def test_a_message_that_goes_on_in_steps_gives_the_loop_turns_and_keeps_its_place() -> None:
    handler, state_store = InSteps(), Sums()
    rig = await after_steps(handler, state_store, 9)
    assert rig.numbers("a") == list(range(9))
    assert rig.counts("t") == {"received": 9, "processed": 9}
    for first in range(0, 20, 4):
        steps = handler.at_step[first : first + 4]
        assert steps == sorted(set(steps))


async def test_a_message_that_fails_between_its_steps_is_set_aside_and_the_others_go_on() -> None:
    handler, state_store = InSteps(), Sums()
    handler.fails_on = 4
    rig = await after_steps(handler, state_store, 6)
    assert rig.numbers("a") == [0, 1, 2, 3, 5]
    letter = one_letter(rig)
    assert (letter.stage, letter.error, letter.attempts) == ("enrich", "halfway", 1)


async def test_a_lane_in_the_middle_of_a_message_holds_up_no_other_lane() -> None:
    gate: list[bool] = []

    def handler(state: Any, event: Any, context: Context) -> Any:
        return waiting(event, context) if event["k"] == "a" else (event["n"], [Publish("out", context.body)])

    def waiting(event: Any, context: Context) -> Generator[None, None, tuple[int, list[Effect]]]:
        while not gate:
            yield
        return event["n"], [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, key=key_of, state_store=Sums()))
    async with rig.engine:
        rig.offer("t", "a", 1)
        rig.offer("t", "a", 2)
        rig.offer("t", "b", 3)
        await until(lambda: rig.numbers("b") == [3])
        assert rig.numbers("a") == []
        gate.append(True)
        await rig.drained()
    assert rig.numbers("a") == [1, 2]
