"""Fitting the SVI curve to the last smile of each expiry, a little at a time and off the path of messages.

A fit takes milliseconds, so it is done on clock events in slices of about a millisecond; of the smiles
that came meanwhile only the last counts, and expiries take turns. What is fitted is a function of the smile
alone: after a restart the last smiles are fitted again and give the same curves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Final

from enricher.analytics.raw_svi import SviFit, Turns, fit_steps
from enricher.analytics.volatility_smile import Smile
from enricher.market.serialisation import rounded

NOT_FITTED: Final = "no curve has been fitted yet"
_SLICE: Final = 0.001
_PARAMETERS: Final = ("a", "b", "rho", "m", "sigma")


class SviScheduler:
    """The curves of one product: those wanted, the one under way, and the last one of each expiry.

    An expiry is fitted at most every ``interval_us`` of the clock, 0 for never. ``timer`` gives seconds, for
    the length of a slice.
    """

    __slots__ = ("_interval_us", "_last_us", "_running", "_timer", "_wanted", "done")

    def __init__(self, interval_us: int, timer: Callable[[], float] = perf_counter) -> None:
        self._interval_us = interval_us
        self._timer = timer
        self._wanted: dict[str, tuple[int, Smile]] = {}
        self._last_us: dict[str, int] = {}
        self._running: tuple[str, int, Turns] | None = None
        self.done: dict[str, dict[str, Any]] = {}

    def want(self, expiry: str, event_us: int, smile: Smile) -> None:
        """Have this smile fitted when its expiry is due again."""
        if self._interval_us:
            self._wanted[expiry] = (event_us, smile)

    def forget(self, expiry: str) -> None:
        """Let go of an expiry, in the middle of its fit if need be."""
        if self._running is not None and self._running[0] == expiry:
            self._running = None
        self._wanted.pop(expiry, None)
        self._last_us.pop(expiry, None)
        self.done.pop(expiry, None)

    def clock_set(self, step_us: int) -> None:
        """The clock was set: fits were begun as long ago as before."""
        for expiry in self._last_us:
            self._last_us[expiry] += step_us

    def due(self) -> int | None:
        """The moment of the clock (microseconds) at which there is something to do; None for nothing."""
        if self._running is not None:
            return 0
        return min((self._due_of(expiry) for expiry in self._wanted), default=None)

    def work(self, now_us: int) -> bool:
        """Fit for up to a millisecond; whether a fit was completed."""
        until, completed = self._timer() + _SLICE, False
        while True:
            if self._running is None:
                expiry = next((e for e in self._wanted if self._is_due(e, now_us)), None)
                if expiry is None:
                    return completed
                event_us, smile = self._wanted.pop(expiry)
                self._last_us[expiry] = now_us
                self._running = expiry, event_us, fit_steps(smile.k, smile.w, smile.years)
            expiry, event_us, turns = self._running
            try:
                while self._timer() < until:
                    next(turns)
            except StopIteration as stop:
                self._finish(expiry, event_us, stop.value)
                completed = True
            except (ArithmeticError, ValueError) as error:  # a smile of numbers that cannot be fitted
                self._finish(expiry, event_us, SviFit(None, 0, reason=str(error)))
                completed = True
            if self._timer() >= until:
                return completed

    def _finish(self, expiry: str, event_us: int, fit: SviFit) -> None:
        self._running = None
        self.done[expiry] = fit_fields(fit, event_us)

    def _is_due(self, expiry: str, now_us: int) -> bool:
        # A clock that was set back must not put the fit off by as much.
        return not self._due_of(expiry) - self._interval_us <= now_us < self._due_of(expiry)

    def _due_of(self, expiry: str) -> int:
        return self._last_us.get(expiry, -self._interval_us) + self._interval_us


def curve(done: Mapping[str, dict[str, Any]], expiry: str) -> dict[str, Any]:
    """The last fit of an expiry as it stands in a row of the surface, with a reason while there is none."""
    fit = done.get(expiry)
    return {"svi": None, "svi_reason": NOT_FITTED} if fit is None else {"svi": fit}


def fit_fields(fit: SviFit, event_us: int) -> dict[str, Any]:
    """A fit as plain data: parameters, errors in volatility points, the least g(k) and where it is."""
    svi, worst = fit.svi, fit.butterfly
    return {
        "as_of_us": event_us,
        **{name: None if svi is None else rounded(getattr(svi, name), 10) for name in _PARAMETERS},
        "nodes": fit.nodes,
        "rmse": rounded(fit.rmse),
        "worst": rounded(fit.worst),
        "g_least": None if worst is None else rounded(worst.worst_g),
        "g_at": None if worst is None else rounded(worst.worst_k),
        "butterfly_free": None if worst is None else worst.free,
        "reason": fit.reason,
    }
