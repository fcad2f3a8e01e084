"""What the right to exercise the options of one expiry early is worth, by strike and volatility.

Two models: a stock with a dividend yield (`exercise_boundary`), and one that pays its dividends in cash
(`dividend_lattice`; for whole chains `quick_dividends`). Amounts are in the unit of prices; derivatives are
in ln of the stock's price (of its rest, where dividends are taken off). ``kind`` is +1 for calls and -1 for
puts.
"""

from __future__ import annotations

from math import erfc, exp, log, sqrt
from typing import Final, Protocol

from enricher.analytics import dividend_lattice
from enricher.analytics.dividend_lattice import Dividends, Early
from enricher.analytics.exercise_boundary import FINE, EarlyExercise, Scheme, early_exercise
from enricher.analytics.quick_dividends import CashCalls, matter_before

_LEAST_SIGMA, _MOST_SIGMA = 1e-4, 100.0
_NONE: Final = Early(0.0, 0.0, 0.0)
_TOO_LITTLE: Final = 1e-5
"""Share of the strike below which the premium of a put with dividends in cash is not looked for."""
_STEPS: Final = 80


class Premium(Protocol):
    """The premiums of calls or puts; ``finest`` is the change of a volatility that they resolve."""

    finest: float

    def premium(self, strike: float, sigma: float) -> float:
        """What exercising early is worth beside the European option."""

    def slopes(self, strike: float, sigma: float) -> Early:
        """It and its derivatives."""

    def at(self, rate: float) -> Premium:
        """Of another rate, close by."""


class OfYield:
    """On a stock with a dividend yield. ArithmeticError where a negative rate makes two boundaries."""

    __slots__ = ("_early", "_kind", "_scheme", "_spot")
    finest = 1e-8

    def __init__(self, kind: int, spot: float, early: EarlyExercise, scheme: Scheme) -> None:
        self._kind, self._spot, self._early, self._scheme = kind, spot, early, scheme

    def premium(self, strike: float, sigma: float) -> float:
        if not _LEAST_SIGMA < sigma < _MOST_SIGMA:
            return 0.0
        if self._kind > 0:
            return self._spot * self._early.premium(log(strike / self._spot), sigma)
        return strike * self._early.premium(log(self._spot / strike), sigma)

    def slopes(self, strike: float, sigma: float) -> Early:
        if not _LEAST_SIGMA < sigma < _MOST_SIGMA:
            return _NONE
        m = log(strike / self._spot) if self._kind > 0 else log(self._spot / strike)
        share = self._early.premium(m, sigma)
        first, second = self._early.derivatives(m, sigma)
        if self._kind < 0:
            return Early(strike * share, strike * first, strike * second)
        spot = self._spot
        return Early(spot * share, spot * (share - first), spot * (share - 2 * first + second))

    def at(self, rate: float) -> OfYield:
        early = self._early
        pair = (early.rate, rate) if self._kind > 0 else (rate, early.dividend_yield)
        scheme = self._scheme._replace(close=self._scheme.close / 10)
        near = EarlyExercise(*pair, early.years, scheme, early, early.delay)
        return OfYield(self._kind, self._spot, near, scheme)


def of_yield(
    kind: int,
    spot: float,
    rate: float,
    dividend_yield: float,
    years: float,
    scheme: Scheme = FINE,
    delay: float = 0.0,
) -> OfYield | None:
    """None where nobody exercises early. ArithmeticError where a negative rate makes two boundaries.

    With a ``delay`` nobody may before so many years.
    """
    pair = (dividend_yield, rate) if kind > 0 else (rate, dividend_yield)
    early = early_exercise(*pair, years, scheme, delay)
    return None if early is None else OfYield(kind, spot, early, scheme)


class CashPuts:
    """Puts on a stock with dividends in cash, as of `quick_dividends`.

    They are exercised ``after`` the last of them, or as with a yield on spot instead of them (``yields``).
    """

    __slots__ = ("_after", "_dividends", "_rate", "_yields")
    finest = 1e-8

    def __init__(
        self, rate: float, dividends: Dividends, after: OfYield | None, yields: OfYield | None
    ) -> None:
        self._rate, self._dividends, self._after, self._yields = rate, dividends, after, yields

    def premium(self, strike: float, sigma: float) -> float:
        return self.slopes(strike, sigma).premium

    def slopes(self, strike: float, sigma: float) -> Early:
        found = self._after.slopes(strike, sigma) if self._after is not None else _NONE
        if self._yields is None or not matter_before(strike, self._rate, self._dividends):
            return found
        return max(found, self._yields.slopes(strike, sigma))

    def at(self, rate: float) -> Premium:
        after, yields = (None if each is None else each.at(rate) for each in (self._after, self._yields))
        return CashPuts(rate, self._dividends, after, yields)


def of_cash(
    kind: int,
    spot: float,
    rest: float,
    rate: float,
    dividend_yield: float,
    years: float,
    dividends: Dividends,
    scheme: Scheme = FINE,
) -> Premium:
    """On a stock at ``spot`` that pays ``dividends``; any scheme but `FINE` takes `quick_dividends`."""
    if scheme == FINE:
        return OfCash(kind, rest, rate, dividend_yield, years, dividends)
    if kind > 0:
        return CashCalls(rest, rate, dividend_yield, years, dividends)
    last, overall = dividends[-1][0], dividend_yield + log(spot / rest) / years
    after = of_yield(kind, rest, rate, dividend_yield, years, scheme, last) if last < years else None
    return CashPuts(rate, dividends, after, of_yield(kind, spot, rate, overall, years, scheme))


class OfCash:
    """On a stock that pays ``dividends`` (years from now, amount) to expiry; ``rest`` is spot without them.

    Dividends make a put worth less to exercise, so that where the premium of a stock without any is next to
    nothing it is taken for 0. Calls are not exercised early where no dividend outweighs the interest on the
    strike until the next, and what the others gain is at most that, by the chance to be in the money.
    """

    __slots__ = ("_dividends", "_found", "_kind", "_most", "_rate", "_rest", "_years", "_yield")
    finest = 1e-6

    def __init__(
        self,
        kind: int,
        rest: float,
        rate: float,
        dividend_yield: float,
        years: float,
        dividends: Dividends,
    ) -> None:
        self._kind, self._rest, self._years, self._dividends = kind, rest, years, dividends
        self._rate, self._yield = rate, dividend_yield
        self._most = of_yield(kind, rest, rate, dividend_yield, years) if kind < 0 else None
        self._found: dict[tuple[float, float], Early] = {}

    def premium(self, strike: float, sigma: float) -> float:
        return self.slopes(strike, sigma).premium

    def slopes(self, strike: float, sigma: float) -> Early:
        key = strike, sigma
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._slopes(strike, sigma)
        return found

    def at(self, rate: float) -> Premium:
        return OfCash(self._kind, self._rest, rate, self._yield, self._years, self._dividends)

    def _slopes(self, strike: float, sigma: float) -> Early:
        if not _LEAST_SIGMA < sigma < _MOST_SIGMA or not self._worth_a_look(strike, sigma):
            return _NONE
        return dividend_lattice.early_exercise(
            self._kind, self._rest, strike, self._years, sigma, self._rate, self._yield, self._dividends,
            _STEPS,
        )  # fmt: skip

    def _worth_a_look(self, strike: float, sigma: float) -> bool:
        if self._kind < 0:
            return self._most is not None and self._most.premium(strike, sigma) > _TOO_LITTLE * strike
        if self._yield > 0 or self._rate < 0:
            return True
        ends = [*(at for at, _ in self._dividends[1:]), self._years]
        most = 0.0
        for (at, amount), end in zip(self._dividends, ends, strict=True):
            gain = amount - strike * (1 - exp(-self._rate * (end - at)))
            if gain > 0:
                most += gain * self._chance(strike, sigma, at)
        return most > _TOO_LITTLE * strike

    def _chance(self, strike: float, sigma: float, at: float) -> float:
        """That a call is in the money right before an ex-date."""
        needed = strike - sum([amount for when, amount in self._dividends if when >= at])
        if needed <= 0:
            return 1.0
        s = sigma * sqrt(at)
        d2 = (log(self._rest / needed) + (self._rate - self._yield) * at) / s - 0.5 * s
        return 0.5 * erfc(-sqrt(0.5) * d2)
