"""Whatever a handler does to its task ends its message alone: every route goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from enricher.engine.effects import Effect, Publish
from enricher.engine.isolation import apart
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Context, Route
from enricher.errors import BadMessage
from tests.rig import Rig, Sums, echo, folding, key_of, turns, until

ONCE = RetryPolicy(max_retries=0)


class Odd(BaseException):
    """What no `except Exception` catches."""


class Mute(Exception):
    """What cannot say what it is."""

    def __str__(self) -> str:
        raise Odd


class Text(str):
    """What is text and cannot be made text."""

    def __str__(self) -> str:
        raise Odd


class Twisted(Exception):
    def __str__(self) -> str:
        return Text("what it says")


class Broken(BadMessage):
    """What cannot be looked at."""

    def __init__(self) -> None:
        """As a class whose attributes are made up when they are asked for."""

    @property
    def path(self) -> str:  # type: ignore[override]
        raise Odd


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("a child")


def task() -> asyncio.Task[Any]:
    found = asyncio.current_task()
    assert found is not None
    return found


async def child_fails_while_the_group_is_left() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


async def child_fails_in_the_body() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
        await asyncio.sleep(9)


async def child_fails_and_it_is_caught() -> None:
    try:
        await child_fails_while_the_group_is_left()
    except* ValueError:
        pass
    raise ValueError("all the same")


async def child_of_anyio_fails() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(fails)
        await asyncio.sleep(9)


async def one_of_those_gathered_fails() -> None:
    await asyncio.gather(fails(), asyncio.sleep(0))


async def own_timeout_passes() -> None:
    async with asyncio.timeout(0):
        await child_fails_in_the_body()


async def future_is_cancelled_by_others() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    await future


async def cancels_itself() -> None:
    task().cancel()
    await asyncio.sleep(9)


async def cancels_itself_and_leaves_it_so() -> None:
    for _ in range(3):
        task().cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(9)
    raise ValueError("and then fails")


async def takes_back_what_nobody_asked() -> None:
    for _ in range(3):
        task().uncancel()
    raise ValueError("and then fails")


async def closes_a_generator_half_way() -> None:
    async def numbers() -> Any:
        try:
            yield 1
            yield 2
        finally:
            raise Odd("half way")

    generator = numbers()
    await anext(generator)
    await generator.aclose()


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def raises() -> None:
        raise error

    return raises


ERRORS = [
    *(SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), Odd(), Mute()),
    *(StopIteration(), StopAsyncIteration(), BaseExceptionGroup("all", [SystemExit(), Odd()])),
    *(Twisted(), Broken()),
    *(SyntaxError("cannot be shown", ("f", 1, None, 3)), ValueError("long " * 1_000_000)),  # type: ignore[arg-type]
]
ACCIDENTS: list[Callable[[], Awaitable[None]]] = [
    child_fails_while_the_group_is_left,
    child_fails_in_the_body,
    child_fails_and_it_is_caught,
    child_of_anyio_fails,
    one_of_those_gathered_fails,
    own_timeout_passes,
    future_is_cancelled_by_others,
    cancels_itself,
    cancels_itself_and_leaves_it_so,
    takes_back_what_nobody_asked,
    closes_a_generator_half_way,
    *map(raising, ERRORS),
]


STRAY = "the handler let out the cancellation of something it waited for"
LET_OUT = {STRAY, "the handler let out SystemExit: 3", "the handler let out Odd: "}


def let_out(rig: Rig) -> set[str]:
    """What dead letters say that handlers let out, of `LET_OUT`; a stray cancellation has its traceback."""
    found = [letter for letter in rig.letters.letters if letter.error in LET_OUT]
    assert {letter.error_type for letter in found} == {"RuntimeError"}
    assert all("CancelledError" in letter.traceback for letter in found if letter.error == STRAY)
    return {letter.error for letter in found}


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_every_accident_of_an_async_handler_is_its_own_dead_letter(timeout: float | None) -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        if event["n"] < len(ACCIDENTS):
            await ACCIDENTS[event["n"]]()
        return [Publish("out", context.body)]

    rig = Rig(
        Route(topic="t", handler=handler, key=key_of, retry=ONCE, timeout=timeout),
        Route(topic="beside", handler=echo, key=key_of),
    )
    async with rig.engine:
        for number in range(len(ACCIDENTS)):
            rig.offer("t", "one", number)  # in one turn of one lane
            rig.offer("t", f"k{number}", number)
            rig.offer("beside", "b", number)
        rig.offer("t", "one", len(ACCIDENTS))
        await rig.drained()
        assert rig.engine.ready
        rig.offer("t", "late", len(ACCIDENTS))
        rig.offer("beside", "late", 0)
        await rig.drained()
    assert rig.counts("t") == {"received": 2 * len(ACCIDENTS) + 2, "dead": 2 * len(ACCIDENTS), "processed": 2}
    assert rig.numbers("b") == list(range(len(ACCIDENTS)))
    kinds = [letter.error_type for letter in reversed(rig.letters.letters) if letter.key == "one"]
    assert kinds[:2] == ["ExceptionGroup"] * 2
    assert kinds[2] == "ValueError"
    assert let_out(rig) == LET_OUT
    assert {100 < len(letter.traceback) < 50_000 for letter in rig.letters.letters} == {True}
    assert max(len(letter.error) for letter in rig.letters.letters) < 50_000


async def test_an_accident_is_tried_again_as_the_route_says() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        if context.attempt < 3:
            await child_fails_while_the_group_is_left()
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler, retry=RetryPolicy(max_retries=2, base=0)))
    async with rig.engine:
        rig.offer("t", number=1)
        await until(lambda: rig.numbers("a") == [1])
    assert rig.counts("t") == {"received": 1, "retried": 2, "processed": 1}


@pytest.mark.parametrize("where", ["plain", "decode", "key", "steps", "thread", "seen", "settle", "load"])
async def test_every_error_ends_its_message_alone_wherever_it_is_raised(where: str) -> None:
    """And where no message is to blame, what failed is done again."""
    wrong = [*ERRORS, "cancel", "uncancel"]

    def accident(number: int) -> None:
        error = wrong[number] if number < len(wrong) else None
        if isinstance(error, BaseException):
            raise error
        if error is not None and where != "thread":
            getattr(task(), error)()

    def plain(event: Any, context: Context) -> list[Effect]:
        accident(event["n"])
        return [Publish("out", context.body)]

    def steps(event: Any, context: Context) -> Generator[None, None, list[Effect]]:
        yield
        return plain(event, context)

    def decode(body: bytes, context: Context) -> Any:
        event = msg(body)
        accident(event["n"])
        return event

    def key(body: bytes) -> str:
        if msg(body)["n"] < len(ERRORS):
            accident(msg(body)["n"])
        return "a"

    class StateStore(Sums):
        failed = 0

        def once(self) -> None:
            self.failed += 1
            if self.failed <= len(ERRORS):
                accident(self.failed - 1)

        def seen(self, state: Any, event: Any, context: Any) -> Any:
            if where == "seen":
                accident(event["n"])
            return super().seen(state, event, context)

        def show(self, state: Any, now_us: int) -> Any:
            if where == "settle":
                self.once()
            return ()

        async def restore(self, reader: Any, wanted: Any) -> Any:
            self.failed += where == "load"
            if where == "load" and self.failed < 4:
                await (cancels_itself, raising(SystemExit()), raising(Mute()))[self.failed - 1]()
            return await super().restore(reader, wanted)

    routes = {
        "plain": Route(topic="t", handler=plain, key=key_of, retry=ONCE),
        "decode": Route(topic="t", handler=echo, decode=decode, key=key_of),
        "key": Route(topic="t", handler=echo, key=key),
        "steps": Route(topic="t", handler=steps, key=key_of, retry=ONCE),
        "thread": Route(topic="t", handler=plain, key=key_of, retry=ONCE, blocking=True),
    }
    stateful = Route(topic="t", handler=folding, key=key_of, state_store=StateStore(), retry=ONCE)
    route = routes.get(where) or stateful
    rig = Rig(route, Route(topic="beside", handler=echo, key=key_of))
    async with rig.engine:
        for number in range(len(wrong) + 1):
            rig.offer("t", "a", number)
            rig.offer("beside", "b", number)
        await rig.drained()
        assert rig.engine.ready
        rig.offer("t", "a", len(wrong) + 1)
        await rig.drained()
    assert rig.numbers("b") == list(range(len(wrong) + 1))
    assert rig.numbers("a")[-2:] == [len(wrong), len(wrong) + 1]
    dead = len(ERRORS) if where not in ("key", "settle", "load") else 0
    assert rig.counts("t").get("dead", 0) == dead
    assert where not in ("plain", "steps") or let_out(rig) == LET_OUT


class Elsewhere(Effect, frozen=True):
    """An effect that no sink of the route takes."""

    sink = "elsewhere"


@pytest.mark.parametrize("shown", [[5], "effects", [Elsewhere()]])
@pytest.mark.parametrize("where", ["show", "on_time"])
async def test_what_a_state_shows_that_is_no_effect_does_not_end_the_engine(where: str, shown: Any) -> None:
    class StateStore(Sums):
        asked = 0

        def show(self, state: Any, now_us: int) -> Any:
            self.asked += where == "show"
            return shown if where == "show" and self.asked == 1 else ()

        def due(self, state: Any) -> int | None:
            return 1 if where == "on_time" and not self.asked else None

        def on_time(self, state: Any, now_us: int) -> Any:
            self.asked += 1
            return shown

    store = StateStore()
    rig = Rig(Route(topic="t", handler=folding, key=key_of, state_store=store))
    with capture_logs() as logs:
        async with rig.engine:
            rig.offer("t", "a", 0)
            await until(lambda: store.asked > 0)
            rig.offer("t", "a", 1)
            await rig.drained()
            assert rig.engine.ready
    assert rig.numbers("a") == [0, 1]
    assert [entry["step"] for entry in logs if entry["event"] == "state_failed"] == [
        "settle" if where == "show" else "on_clock"
    ]


def msg(body: bytes) -> Any:
    return json.loads(body)


async def test_each_message_has_a_context_of_its_own_made_of_the_hosts() -> None:
    said: ContextVar[str] = ContextVar("said", default="nothing")
    seen: list[str] = []

    async def handler(event: Any, context: Context) -> list[Effect]:
        seen.append(said.get())
        said.set(f"by {event['n']}")
        return []

    rig = Rig(Route(topic="t", handler=handler, key=key_of))
    said.set("by the host")
    await rig.take(*range(3))
    assert seen == ["by the host"] * 3


async def test_a_stop_cancels_a_handler_and_lets_go_of_one_that_goes_on() -> None:
    ended: list[str] = []
    release = asyncio.Event()

    async def handler(event: Any, context: Context) -> list[Effect]:
        try:
            await release.wait()
        except asyncio.CancelledError:
            ended.append(event["k"])
            if event["k"] == "well":
                raise
        await release.wait()
        return [Publish("out", context.body)]

    rig = Rig(Route(topic="t", handler=handler))
    with capture_logs() as lines:
        async with rig.engine:
            rig.offer("t", "well")
            rig.offer("t", "on")
            await until(lambda: len(rig.engine.stats.in_flight) == 2)
            await rig.engine.stop(0.02)
            assert rig.engine.lost == {"t": 2}
    assert sorted(ended) == ["on", "well"]
    assert [line["handler"] for line in lines if line["event"] == "handler_does_not_end"] == ["t"]
    release.set()
    await turns()
    assert rig.counts("t") == {"received": 2, "lost": 2}


async def test_one_that_swallows_its_timeout_is_cancelled_again_until_it_ends() -> None:
    swallowed = 0

    async def swallows() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await apart(swallows, timeout=0.01)
    assert swallowed == 2


def test_ctrl_c_is_nobodys_failure() -> None:
    async def handler(event: Any, context: Context) -> list[Effect]:
        signal.raise_signal(signal.SIGINT)
        return []

    async def host() -> None:
        rig = Rig(Route(topic="t", handler=handler))
        async with rig.engine:
            rig.offer("t")
            await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(host())
        for left in asyncio.all_tasks(loop):
            left.cancel()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
