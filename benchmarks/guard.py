"""A guard against regressions that does not depend on the machine: work is counted, not timed.

Seeded ticks, quotes, chains of 21 strikes and the mix go through the real engine (`benchmarks.still`), all
at once (flood) and one by one (trickle: what every turn and every commit costs), without analytics but for
the chains that say so. Counted per message:

    calls        functions entered and C functions called, in all libraries
    our calls    those of enricher's own code alone
    steps        bytecode instructions of enricher's own code
    callbacks    what the event loop was asked to run
    turns        turns that lanes were given
    commits      commits of both sinks
    bytes held   memory at its highest, above that before
    bytes kept   memory left afterwards (state: windows, bars, surface)

The same code gives the same figures on every machine, however busy that is. They are compared with
those of ``guard.json``, which holds one set per Python version (bytecode differs); with a version it does
not know nothing is judged. ``python -m benchmarks guard`` exits with 1 when a figure is more than the slack
above its limit, ``--update`` writes today's figures down as the limits.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar
from unittest.mock import patch

import msgspec

import enricher
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.still import START_US, Change, Still, StillLoop, messages, unchanged
from enricher.engine import timers, turns
from enricher.engine.effects import Insert, Publish, SetKey
from enricher.engine.ports import Write
from enricher.engine.router import Route
from enricher.market.documents import CHAINS, QUOTES, TICKS
from enricher.market.feed.channels import OPTION_QUOTE
from enricher.market.settings import MarketSettings

T = TypeVar("T")

LIMITS = Path(__file__).with_name("guard.json")
SLACK = 0.03
_OURS = str(Path(enricher.__file__).parent)
_LIBRARIES = ("anyio", "msgspec", "orjson", "structlog")

_ALLOWED = {"bytes held": 64.0, "bytes kept": 64.0, "turns": 0.005, "commits": 0.005, "callbacks": 0.02}
"""Above the slack, so that a figure next to nothing may move by next to nothing."""

Figures = dict[str, float]

_IN_LIBRARIES = frozenset({"calls", "callbacks", "bytes held", "bytes kept"})
"""Figures that other versions of the libraries may change."""


class Case(msgspec.Struct, frozen=True):
    """A workload: ``count`` messages of a ``kind``, all at once (flood) or one by one (trickle)."""

    kind: str
    count: int
    way: str
    analytics: bool = False

    @property
    def name(self) -> str:
        """What the tables and the limits call it."""
        return f"{self.kind}{' analysed' if self.analytics else ''}, {self.way}"


CASES = (
    Case("ticks", 320, "flood"),
    Case("quotes", 320, "flood"),
    Case("chains", 32, "flood"),
    Case("mix", 320, "flood"),
    Case("ticks", 48, "trickle"),
    Case("mix", 96, "trickle"),
    Case("chains", 32, "flood", analytics=True),
    Case("chains", 32, "trickle", analytics=True),
)
_WARM_UP = 80
"""Messages that go before those that are counted: every product has its state by then."""


class Limits(msgspec.Struct, frozen=True):
    """The figures of one Python version, and the libraries they were counted with."""

    libraries: dict[str, str]
    cases: dict[str, Figures]


class Verdict(msgspec.Struct, frozen=True):
    """What the comparison found: sentences for what is over, and remarks that fail nothing."""

    over: tuple[str, ...]
    remarks: tuple[str, ...]


# -- counting ------------------------------------------------------------------------------------------


def measure(case: Case, change: Change = unchanged) -> Figures:
    """The figures of one case, per message; ``change`` may exchange the routes (to see the guard bark)."""
    figures: Figures = {}
    # One by one there is never more than one message, and what the state grows by is the same.
    more = (_count_bytes,) if case.way == "flood" else ()
    for count in (_count_calls, _count_steps, *more):
        found = _in_still(case, change, count)
        figures |= {name: round(n / case.count, 4 if n < case.count else 2) for name, n in found.items()}
    return figures


class Counted(msgspec.Struct, frozen=True):
    """What a way of counting gets: an engine that is warm, and what makes it work."""

    loop: StillLoop
    still: Still
    hand_in: Callable[[], Coroutine[Any, Any, None]]
    """All messages of the case, as the case wants them handed in; returns when they have left."""
    hand_in_last: Callable[[], Coroutine[Any, Any, None]]
    """One message more."""


Counting = Callable[[Counted], Coroutine[Any, Any, Figures]]


def _in_still(case: Case, change: Change, count: Counting) -> Figures:
    """What one way of counting finds over the messages of the case, in a fresh engine."""
    loop = StillLoop()
    made = messages(case.kind, _WARM_UP + case.count + 1)
    middle, last = made[_WARM_UP:-1], made[-1:]

    async def run() -> Figures:
        still = Still(_clock(loop), change, analytics=case.analytics)
        way = still.trickle if case.way == "trickle" else still.flood
        async with still.engine:
            await way(made[:_WARM_UP])
            figures = await count(Counted(loop, still, lambda: way(middle), lambda: way(last)))
        if set(still.labels) != {"processed"}:
            raise RuntimeError(f"{case.name}: not every message was processed: {dict(still.labels)}")
        return figures

    # How long a handler took decides how many buckets of a histogram are filled, and when a turn ends.
    with patch.object(turns, "perf_counter", loop.time), patch.object(timers, "perf_counter", loop.time):
        return _run(loop, run())


def _run(loop: StillLoop, work: Coroutine[Any, Any, T]) -> T:
    gc.collect()
    gc.disable()  # a collection may end generators, and that would be counted
    try:
        return loop.run_until_complete(work)
    finally:
        gc.enable()
        loop.close()


def _clock(loop: StillLoop) -> Callable[[], int]:
    return lambda: START_US + int(loop.time() * 1e6)


async def _count_calls(of: Counted) -> Figures:
    ours = every = 0
    is_ours = _Ours()

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal ours, every
        if event in ("call", "c_call"):
            every += 1
            if is_ours[frame.f_code]:
                ours += 1

    still, loop = of.still, of.loop
    turns, commits, callbacks = still.engine.pool.turns, _commits(still), loop.callbacks
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        await of.hand_in()
    finally:
        sys.setprofile(before)
    return {
        "calls": every,
        "our calls": ours,
        "callbacks": loop.callbacks - callbacks,
        "turns": still.engine.pool.turns - turns,
        "commits": _commits(still) - commits,
    }


async def _count_steps(of: Counted) -> Figures:
    steps = 0
    is_ours = _Ours()

    def stepped(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        if event == "opcode":
            steps += 1
        return stepped

    def entered(frame: FrameType, event: str, argument: object) -> Any:
        if not is_ours[frame.f_code]:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return stepped

    # Python 3.12 reports instructions only if a frame has asked for them before tracing begins.
    sys._getframe().f_trace_opcodes = True
    before = sys.gettrace()
    sys.settrace(entered)
    try:
        await of.hand_in()
    finally:
        sys.settrace(before)
    return {"steps": steps}


async def _count_bytes(of: Counted) -> Figures:
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        await of.hand_in()
        _, most = tracemalloc.get_traced_memory()
        await of.hand_in_last()  # the writer lets go of a batch when it takes the next
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return {"bytes held": most - before, "bytes kept": max(0, after - before)}


class _Ours(dict[CodeType, bool]):
    """Whether a code object is enricher's own, remembered."""

    def __missing__(self, code: CodeType) -> bool:
        found = self[code] = code.co_filename.startswith(_OURS)
        return found


def _commits(still: Still) -> int:
    return still.documents.commits + still.live.commits


# -- laws ----------------------------------------------------------------------------------------------


def broken_laws(change: Change = unchanged, count: int = 400) -> list[str]:
    """What a flood of the mix does more often than it must; nothing when all is well.

    Each message is decoded, handled and folded once, stored once and (quotes apart) published once; a turn
    of a lane settles once, and shows each window and the surface of its product once at most.
    """
    loop = StillLoop()
    seen: Counter[str] = Counter()
    made = messages("mix", count)
    batches: list[Sequence[Write]] = []

    async def run() -> int:
        still = Still(_clock(loop), lambda routes: _watched(change(routes), seen))
        still.documents.batches = batches
        async with still.engine:
            await still.flood(made)
        return still.engine.pool.turns

    turns = _run(loop, run())
    for effect in (effect for batch in batches for write in batch for effect in write.effects):
        match effect:
            case Insert(collection=name) if name in (TICKS, QUOTES, CHAINS):
                seen["stored"] += 1
            case Publish():
                seen["published"] += 1
            case SetKey(key=key) if key.startswith(("ohlc:", "volatility_surface:")):
                seen[key.split(":")[0]] += 1
    public = sum(topic != OPTION_QUOTE for topic, _ in made)
    windows = turns * len(MarketSettings().windows)
    laws = {
        "decoded": count,
        "handled": count,
        "folded": count,
        "stored": count,
        "published": public,
        "settled": turns,
        "ohlc": windows,
        "volatility_surface": turns,
    }
    return [
        f"{name}: {seen[name]} times, at most {most} ({count} messages in {turns} turns)"
        for name, most in laws.items()
        if not 0 < seen[name] <= most
    ]


def _watched(routes: list[Route], seen: Counter[str]) -> list[Route]:
    """The routes with every call of their functions counted."""

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen[name] += 1
            return function(*arguments, **options)

        return call

    stores = {id(route.state_store): route.state_store for route in routes}
    for state_store in filter(None, stores.values()):
        # It is of this run alone, so its methods may be exchanged.
        for method, name in (("fold", "folded"), ("show", "settled")):
            setattr(state_store, method, counted(name, getattr(state_store, method)))
    return [
        replace(
            route, handler=counted("handled", route.handler), decode=counted("decoded", route.decode)
        )
        for route in routes
    ]


# -- judging -------------------------------------------------------------------------------------------


def python_version() -> str:
    """The version whose limits count: ``3.11``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def libraries() -> dict[str, str]:
    """The versions of the libraries whose functions are counted with ours."""
    return {name: version(name) for name in _LIBRARIES}


def read_limits(path: Path = LIMITS) -> dict[str, Limits]:
    """The committed limits by Python version; none where there is no file."""
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Limits]) if path.exists() else {}


def write_limits(measured: Mapping[str, Figures], path: Path = LIMITS) -> None:
    """Make these figures the limits of this Python version; those of others stay."""
    every = read_limits(path) | {python_version(): Limits(libraries(), dict(measured))}
    text = msgspec.json.format(msgspec.json.encode(dict(sorted(every.items()))), indent=2)
    path.write_bytes(text + b"\n")


def judge(measured: Mapping[str, Figures], limits: Limits | None) -> Verdict:
    """What of ``measured`` is over its limit by more than the slack.

    Without limits (a Python version nobody counted with) nothing is over. Figures that include libraries
    are not judged when those have other versions than the limits were counted with.
    """
    if limits is None:
        return Verdict((), (f"no limits for Python {python_version()}: printed, not judged",))
    remarks = []
    here = libraries()
    other = [f"{name} {here[name]}, not {was}" for name, was in limits.libraries.items() if here[name] != was]
    if other:
        names = ", ".join(sorted(_IN_LIBRARIES))
        remarks.append(f"not judged: {names}; they count libraries too, and here is {'; '.join(other)}")
    over, under = [], []
    for name, figures in measured.items():
        for figure, value in figures.items():
            limit = limits.cases.get(name, {}).get(figure)
            if limit is None:
                remarks.append(f"{name}: no limit of {figure}; --update writes one")
            elif not (other and figure in _IN_LIBRARIES):
                if value > limit * (1 + SLACK) + _ALLOWED.get(figure, 0):
                    over.append(f"{name}: {value:,g} {figure} a message, limit {limit:,g} + {SLACK:.0%}")
                elif value < limit * (1 - 2 * SLACK) - _ALLOWED.get(figure, 0):
                    under.append(f"{figure} of {name}")
    if under:
        remarks.append(f"well below the limit, so --update may tighten it: {', '.join(under)}")
    return Verdict(tuple(over), tuple(remarks))


def run(options: Options) -> list[Report]:
    """A row per case; the report has failed when a figure is over its limit or a law is broken."""
    measured = {case.name: measure(case) for case in CASES}
    broken = broken_laws()
    if options.update:
        write_limits(measured)
    verdict = judge(measured, read_limits().get(python_version()))
    report = Report("guard", "work of the engine per message, counted", ["case", *measured[CASES[0].name]])
    report.rows = [{"case": name, **figures} for name, figures in measured.items()]
    report.notes = [
        *(f"OVER: {sentence}" for sentence in verdict.over),
        *(f"MORE OFTEN THAN IT MUST: {sentence}" for sentence in broken),
        *verdict.remarks,
    ]
    report.failed = bool(verdict.over or broken)
    return [report]
