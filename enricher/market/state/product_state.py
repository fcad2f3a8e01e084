"""What the lane of one product remembers: its folds, in the order in which they are given its messages.

Each number per product is a fold of the product's stored messages, so stopping, killing and starting in the
middle of a window changes no number; `market.state.restore` reads the messages back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from functools import lru_cache
from types import MethodType
from typing import Any

from enricher.analytics.contracts import Contract, Session
from enricher.engine.effects import Effect
from enricher.log import log
from enricher.market.folds.as_of import AsOf
from enricher.market.folds.baselines import Baselines
from enricher.market.folds.checkpoint import Checkpoint
from enricher.market.folds.closed_bars import ClosedBars
from enricher.market.folds.expiries import Expiries
from enricher.market.folds.feed_health import FeedHealth
from enricher.market.folds.fold import ChainChange, Fold, QuoteChange, TickChange
from enricher.market.folds.gaps import Gaps
from enricher.market.folds.history import History
from enricher.market.folds.identities import Identities
from enricher.market.folds.last_chains import LastChains
from enricher.market.folds.newest_quotes import NewestQuotes
from enricher.market.folds.product_summary import Whole
from enricher.market.folds.surface_view import SurfaceView
from enricher.market.folds.windows import Windows
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.market.state.recent import Recent
from enricher.texts import trace_of

Step = Callable[[Any], str | None]

_MANY = 8  # ticks are folded faster together

Makes = Callable[["ProductState"], Fold]
"""A class of folds, or whatever else makes one for a product."""


class ProductState:
    """One product, as its folds know it: its contract, the settings, its zone, and each other by name.

    Owned by the product's lane, touched by nobody else. ``own`` makes the folds of a host program, which come
    last. ``feed_gaps`` are those of the ticks' feed by receipt, shared by all products. ``steps``, ``shown``
    and ``timed`` are what folds do with a message of a kind, after a turn, and by the clock.

    ``last`` is the newest tick by event time, None while that is one that was read back. Ticks that come in
    order are gathered, and folded together when `show`, or anybody, asks for bars or windows.
    """

    __slots__ = (
        "_bars", "_gathers", "_run", "_session", "_windows", "as_of", "baselines", "cache_ms", "chains",
        "checkpoint", "contract", "expiries", "folds", "gaps", "health", "history", "identities", "last",
        "own", "product", "quotes", "recent", "settings", "shown", "steps", "surface", "timed", "whole",
        "zone",
    )  # fmt: skip

    def __init__(
        self,
        product: str,
        settings: MarketSettings,
        contract: Contract | None = None,
        zone: tzinfo = UTC,
        feed_gaps: Sequence[tuple[int, int]] = (),
        own: Sequence[Makes] = (),
    ) -> None:
        self.product = product
        self.settings = settings
        self.contract = Contracts().of(product) if contract is None else contract
        self.zone = zone  # that of times without an offset
        self.cache_ms = settings.cache_ttl * 1000
        self._session: Session | None = None
        # Messages that were stored last when this was read back: they may not have been shown.
        self.recent = Recent()
        self.identities = Identities(self)
        self.gaps = Gaps(self, feed_gaps)
        self._bars = ClosedBars(self)
        self._windows = Windows(self)
        self.last: TickChange | None = None
        self._run: list[TickChange] = []
        self.baselines = Baselines(self)
        self.history = History(self)
        self.as_of = AsOf(self)
        self.quotes = NewestQuotes(self)
        self.chains = LastChains(self)
        self.surface = SurfaceView(self)
        self.whole = Whole(self)
        self.expiries = Expiries(self)
        self.health = FeedHealth(self)
        self.checkpoint = Checkpoint(self)
        self.own = tuple([make(self) for make in own])
        for made in self.own:
            if not isinstance(made, Fold) or not hasattr(made, "due_us"):
                expected = "an enricher.market.folds.Fold, whose __init__ calls that of Fold"
                raise TypeError(f"folds make {made!r}: expected {expected}")
        priced = settings.analytics
        # Each sees those before it as they are after a message, and those after it as they were before.
        self.folds: tuple[Fold, ...] = (
            self.identities,
            self.gaps,  # of what was heard before this tick
            self._bars,  # a tick too late for the windows was heard all the same
            self._windows,  # ends a tick that is too late
            self.baselines,
            *((self.history, self.as_of) if priced else ()),
            self.quotes,  # ends a chain that its expiry has a newer one of
            self.chains,
            self.surface,
            *((self.whole,) if priced else ()),
            self.expiries,
            *((self.health,) if priced else ()),
            *self.own,
            self.checkpoint,
        )
        kinds = tuple([type(fold) for fold in self.folds])
        self.steps = _steps(kinds)
        self.shown = _methods(kinds, "show")
        self.timed = _methods(kinds, "on_time")
        # A fold of a program may have a word to say about each tick.
        self._gathers = all(type(fold).fold_tick is Fold.fold_tick for fold in self.own)

    @property
    def bars(self) -> ClosedBars:
        """The bars, with all ticks that have come."""
        if self._run:
            self.settle()
        return self._bars

    @property
    def windows(self) -> Windows:
        """The rolling windows, with all ticks that have come."""
        if self._run:
            self.settle()
        return self._windows

    def fold(self, change: TickChange | QuoteChange | ChainChange) -> str | None:
        """Have the folds take a message in, or gather it; the word of the one that ended it."""
        if type(change) is TickChange:
            last = self.last
            run = self._run
            if last is not None and change.event_us > last.event_us and (run or not self.gaps.pending):
                run.append(change)
                self.last = change
                return None
            self.settle()
        folds = self.folds
        for at, step in self.steps[type(change)]:
            label = step(folds[at], change)
            if label is not None:
                return checked(label)
        if type(change) is TickChange and self._gathers and change.sent is self._windows.latest:
            self.last = change
        return None

    def settle(self) -> None:
        """Fold the ticks that have gathered."""
        run = self._run
        if not run:
            return
        self._run = []
        if len(run) >= _MANY:
            self._bars.fold_run(run)
            self._windows.fold_run(run)
            return
        for tick in run:
            self._bars.fold_tick(tick)
            self._windows.fold_tick(tick)

    def restoring(self, kind: type) -> list[Step]:
        """What folds a message of a ``kind`` that is read back."""
        steps: list[Step] = [MethodType(step, self.folds[at]) for at, step in self.steps[kind]]
        return [forgiving(step) if _fold_of(step) in self.own else step for step in steps]

    def session(self, moment_us: int) -> Session:
        """The local day of a moment, with the product's hours of trading."""
        session = self._session
        if session is None or not session.start_us <= moment_us < session.end_us:
            session = self._session = self.contract.session(moment_us)
        return session

    def day_start(self, moment_us: int) -> int:
        """Where the local day of a moment begins (microseconds)."""
        return self.session(moment_us).start_us


@lru_cache
def _methods(kinds: tuple[type[Fold], ...], name: str) -> tuple[tuple[int, Callable[..., Any]], ...]:
    """The method ``name`` of the folds that have one of their own, each with its place: products share it."""
    methods = [(at, getattr(kind, name)) for at, kind in enumerate(kinds)]
    return tuple([(at, method) for at, method in methods if method is not getattr(Fold, name)])


@lru_cache
def _steps(kinds: tuple[type[Fold], ...]) -> dict[type, tuple[tuple[int, Callable[..., Any]], ...]]:
    return {
        TickChange: _methods(kinds, "fold_tick"),
        QuoteChange: _methods(kinds, "fold_quote"),
        ChainChange: _methods(kinds, "fold_chain"),
    }


def forgiving(step: Step) -> Step:
    """A step of a program's fold that leaves a stored message out which it cannot take.

    Without it the product would stand still, for it cannot be restored.
    """

    def fold(change: Any) -> str | None:
        try:
            return checked(step(change))
        except Exception as error:  # noqa: BLE001  it is somebody else's code
            name = type(_fold_of(step)).__name__
            log.warning("stored_message_not_folded", fold=name, event_us=change.event_us, error=repr(error))
            return None

    return fold


def checked(label: Any) -> str | None:
    """What a fold answered to a message, which is a word if it is anything."""
    if isinstance(label, str | None):
        return label
    raise TypeError(f"a fold answers a message with a word or None, not with {label!r}")


def harmless(method: Callable[..., Any], nothing: Any = None) -> Callable[..., Any]:
    """A method of a program's fold that takes nothing from the other numbers when it fails.

    It has ``nothing`` to say then, with a line in the log. So it does where ``nothing`` is no effects and
    what it returns is something else than effects.
    """

    def call(*arguments: Any) -> Any:
        try:
            answer = method(*arguments)
            if nothing == ():
                answer = tuple(answer)
                if odd := [effect for effect in answer if not isinstance(effect, Effect)]:
                    raise TypeError(f"expected effects, got {odd[0]!r}")
        except Exception as error:  # noqa: BLE001  it is somebody else's code
            fold = _fold_of(method)
            log.error(
                "fold_failed",
                fold=type(fold).__name__,
                method=method.__name__,
                product=fold.product.product,
                error=repr(error),
                traceback=trace_of(error),
            )
            return nothing
        return answer

    return call


def _fold_of(step: Any) -> Any:
    return step.__self__
