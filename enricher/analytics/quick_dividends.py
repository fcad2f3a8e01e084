"""What early exercise is worth where dividends are paid in cash, quickly enough for whole chains.

The model is that of `dividend_lattice`: what moves is the ``rest``, spot less the present value of the
dividends (years until the stock trades without it, amount; ascending). Amounts are in the unit of prices,
derivatives in ln of the rest.

Calls are exercised right before the ex-date at which that is worth most. It is an integral over what then is
gained, from the price on from which it is a gain (with a single dividend that is the whole premium: R. Roll,
1977; R. Geske, 1979; R. Whaley, 1981; with more a lower bound). Puts are exercised after the last ex-date:
the premium of `exercise_boundary`, delayed. That is all of it unless the interest between two ex-dates
outweighs the dividend; where it does, it is that or the premium of the yield that the forward implies,
whichever is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, erfc, exp, log, sqrt
from typing import Final, NamedTuple

from enricher.analytics.dividend_lattice import Dividends, Early, present_value
from enricher.analytics.exercise_boundary import gauss

_NONE: Final = Early(0.0, 0.0, 0.0)
_REACH: Final = 7.0  # standard deviations on either side
_PANEL: Final = 3.5  # of them, between which an integral is taken by Gauss and Legendre
_MOST_STEPS: Final = 40
_R, _C = sqrt(0.5), 0.3989422804014327


class _ExDate(NamedTuple):
    """Exercising right before an ex-date: ``years`` until then, ``left`` from then to expiry.

    ``escrow`` is what the dividends from it on are worth then.
    """

    years: float
    escrow: float
    left: float


class _Gain(NamedTuple):
    """By exercising a call rather than keeping the European one, at a price of the rest; and derivatives."""

    value: float
    first: float
    second: float


class CashCalls:
    """Calls on a stock with dividends in cash."""

    __slots__ = ("_dates", "_rate", "_rest", "_yield")
    finest = 1e-7

    def __init__(
        self, rest: float, rate: float, dividend_yield: float, years: float, dividends: Dividends
    ) -> None:
        self._rest, self._rate, self._yield = rest, rate, dividend_yield
        self._dates = [
            _ExDate(at, present_value([(when - at, paid) for when, paid in dividends[n:]], rate), years - at)
            for n, (at, _) in enumerate(dividends)
        ]

    def premium(self, strike: float, sigma: float) -> float:
        return self.slopes(strike, sigma).premium

    def slopes(self, strike: float, sigma: float) -> Early:
        return max([_NONE, *(self._before(date, strike, sigma) for date in self._dates)])

    def at(self, rate: float) -> CashCalls:
        other = CashCalls(self._rest, rate, self._yield, 0.0, ())
        other._dates = self._dates
        return other

    def _before(self, date: _ExDate, strike: float, sigma: float) -> Early:
        """The right to exercise before one ex-date."""
        if self._yield <= 0 and date.escrow <= strike * (1 - exp(-self._rate * date.left)):
            return _NONE
        s = sigma * sqrt(date.years)
        middle = (self._rate - self._yield - 0.5 * sigma * sigma) * date.years
        start, slope = -_REACH, 0.0
        if strike > date.escrow:
            found = self._worth_it(date, strike, sigma, strike - date.escrow)
            if found is None:
                return _NONE
            price, slope = found
            start = (log(price / self._rest) - middle) / s
        if start >= _REACH:
            return _NONE
        if start < -_REACH:
            start, slope = -_REACH, 0.0
        value = first = 0.0
        second = slope * _C * exp(-0.5 * start * start) / s  # for the price from which on it is a gain
        count = ceil((_REACH - start) / _PANEL)
        half = 0.5 * (_REACH - start) / count
        for panel in range(count):
            for point, weight in gauss(12):
                z = start + half * (2 * panel + 1 + point)
                gain = self._gain(date, strike, sigma, self._rest * exp(middle + s * z))
                density = weight * half * _C * exp(-0.5 * z * z)
                value += density * gain.value
                first += density * gain.first
                second += density * gain.second
        discount = exp(-self._rate * date.years)
        return Early(max(discount * value, 0.0), discount * first, discount * second)

    def _worth_it(
        self, date: _ExDate, strike: float, sigma: float, price: float
    ) -> tuple[float, float] | None:
        """From which price on exercise is a gain, and the slope of the gain there; by Newton from below."""
        for _ in range(_MOST_STEPS):
            gain = self._gain(date, strike, sigma, price)
            if gain.first <= 1e-12 * price:
                return None
            step = -gain.value / gain.first
            price *= exp(min(step, 1.0))
            if abs(step) < 1e-9:
                break
        return price, gain.first

    def _gain(self, date: _ExDate, strike: float, sigma: float, price: float) -> _Gain:
        s = sigma * sqrt(date.left) or 1e-12
        d1 = (log(price / strike) + (self._rate - self._yield) * date.left) / s + 0.5 * s
        kept = price * exp(-self._yield * date.left)
        delta = 0.5 * kept * erfc(-_R * d1)
        owed = 0.5 * strike * exp(-self._rate * date.left) * erfc(-_R * (d1 - s))
        first = price - delta
        return _Gain(
            price + date.escrow - strike - delta + owed, first, first - kept * _C * exp(-0.5 * d1 * d1) / s
        )


def matter_before(strike: float, rate: float, dividends: Sequence[tuple[float, float]]) -> bool:
    """Whether a put may be worth exercising before the last ex-date: the interest outweighs a dividend."""
    starts = [0.0, *(at for at, _ in dividends)]
    return any(
        strike * (exp(rate * (end - start)) - 1) > amount
        for (start, end), (_, amount) in zip(pairwise(starts), dividends, strict=True)
    )
