"""What early exercise is worth where dividends are paid in cash, by a lattice in the price of the stock.

The stock is its dividends until expiry, discounted, and the rest, which moves with the volatility (the
escrowed model); so the European option is Black's on the forward of the rest. Dividends are (years until the
stock trades without it, amount) until expiry, ascending; ``rest`` is spot less their present value. Units are
those of `enricher.analytics.black76`.

A trinomial lattice in ln of the rest, whose steps end at the ex-dates, since calls are exercised right before
one; the last step before expiry is by Black's formula, and the European option on the same lattice is taken
away, so that most of the lattice's error goes with it. Sources: P. Boyle, A Lattice Framework for Option
Pricing with Two State Variables, 1988; M. Broadie and J. Detemple, American Option Valuation, 1996 (Black's
formula in the last step); J. Hull and A. White, The Use of the Control Variate Technique, 1988.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, exp, sqrt
from typing import Final, NamedTuple

from enricher.analytics import black76

Dividends = Sequence[tuple[float, float]]

_MOST_STEPS: Final = 400
_REACH: Final = 5.0  # standard deviations on either side


class Early(NamedTuple):
    """The premium for early exercise, and its first and second derivative in ln of the rest."""

    premium: float
    first: float
    second: float


def present_value(dividends: Dividends, rate: float) -> float:
    """What dividends are worth now."""
    return sum([amount * exp(-rate * years) for years, amount in dividends])


def early_exercise(
    kind: int,
    rest: float,
    strike: float,
    years: float,
    sigma: float,
    rate: float,
    dividend_yield: float,
    dividends: Dividends,
    steps: int,
) -> Early:
    """The premium of an American call or put, by ``steps`` to expiry and twice as many, extrapolated.

    There are more where volatility is small. With 80 the error is about 2e-5 of spot, at most 5e-4.
    """
    drift = rate - dividend_yield - 0.5 * sigma * sigma
    steps = min(max(steps, ceil(4 * drift * drift * years / (sigma * sigma))), _MOST_STEPS)
    marks = sorted({0.0, years, *(at for at, _ in dividends if 0 < at < years)})
    terms = kind, rest, strike, years, sigma, rate, dividend_yield, dividends
    far, near = (_lattice(*terms, _times(marks, steps, parts)) for parts in (1, 2))
    return Early(*(2 * twice - once for once, twice in zip(far, near, strict=True)))


def _lattice(
    kind: int,
    rest: float,
    strike: float,
    years: float,
    sigma: float,
    rate: float,
    dividend_yield: float,
    dividends: Dividends,
    times: list[float],
) -> Early:
    carry = rate - dividend_yield
    drift = carry - 0.5 * sigma * sigma
    widest = max([after - before for before, after in pairwise(times)])
    gap = sigma * sqrt(3 * widest)
    reach = ceil((_REACH * sigma * sqrt(years) + abs(drift) * years) / gap) + 2
    stock = [rest * exp(gap * at) for at in range(-reach, reach + 1)]
    last = times[-2]
    left = years - last
    grown, discount = exp(carry * left), exp(-rate * left)
    europe = [black76.price(kind, price * grown, strike, left, sigma, discount) for price in stock]
    at_once = [kind * (price - strike) for price in stock]
    escrow = kind * _still_to_come(dividends, last, rate)
    worth = [max(value, paid + escrow) for value, paid in zip(europe, at_once, strict=True)]
    ends = stock[0], stock[-1]
    for before, after in zip(reversed(times[:-2]), reversed(times[1:-1]), strict=True):
        step = after - before
        spread = (sigma * sigma * step + (drift * step) ** 2) / (gap * gap)
        tilt = drift * step / gap
        discount = exp(-rate * step)
        up, down = 0.5 * discount * (spread + tilt), 0.5 * discount * (spread - tilt)
        same = discount - up - down
        escrow = kind * _still_to_come(dividends, before, rate)
        left = years - before
        owed, kept = strike * exp(-rate * left), exp(-dividend_yield * left)
        away = [max(kind * (price * kept - owed), 0.0) for price in ends]
        europe = [
            away[0],
            *[down * a + same * b + up * c for a, b, c in zip(europe, europe[1:], europe[2:], strict=False)],
            away[1],
        ]
        held = [down * a + same * b + up * c for a, b, c in zip(worth, worth[1:], worth[2:], strict=False)]
        worth = [
            max(value, paid + escrow)
            for value, paid in zip([away[0], *held, away[1]], at_once, strict=True)
        ]
    below, here, above = [worth[at] - europe[at] for at in (reach - 1, reach, reach + 1)]
    return Early(here, (above - below) / (2 * gap), (above - 2 * here + below) / (gap * gap))


def _times(marks: Sequence[float], steps: int, parts: int) -> list[float]:
    """Moments from now to expiry, those right before each ex-date among them."""
    years = marks[-1]
    times = [0.0]
    for start, end in pairwise(marks):
        count = parts * max(ceil(steps * (end - start) / years - 1e-9), 1)
        times.extend(start + (end - start) * at / count for at in range(1, count + 1))
    if len(times) < 3:
        times.insert(1, years / 2)
    return times


def _still_to_come(dividends: Dividends, moment: float, rate: float) -> float:
    """What the dividends from a moment on are worth then; one of that very moment is still to come."""
    return sum([amount * exp(-rate * (at - moment)) for at, amount in dividends if at >= moment - 1e-12])
