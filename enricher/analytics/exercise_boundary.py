"""The price below which an American put is exercised, and what the right to do so is worth.

Everything is of a put with strike 1: ``rate`` r and ``dividend_yield`` q are continuously compounded
decimals, ``sigma`` a decimal a year, ``years`` the time to expiry T; m = ln(S/K). A call on S struck at K is
a put on K struck at S with r and q exchanged (McDonald and Schroder 1998). With the boundary B(t), t the time
left, the premium over the European put is

    integral over t from 0 to T of  r e^(-r t) N(-d2) - q e^(m - q t) N(-d1)  at S / B(T - t)

Source: L. Andersen, M. Lake and D. Offengenden, High Performance American Option Pricing, 2016: the fixed
point for the boundary (their FP-B), Chebyshev nodes of ln(B / B(0))^2 in the root of time, and Gauss-Legendre
over the root of time. The first guess is that of G. Barone-Adesi and R. Whaley, 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import cos, erfc, exp, floor, log, pi, sqrt
from operator import mul
from typing import Final, NamedTuple

Nodes = list[float]


class Scheme(NamedTuple):
    """How finely: nodes of the boundary, points of the integrals for it and for the premium; ``close`` is the
    change of ln B in a step with which the iteration ends; ``step`` of ln sigma parts the boundaries between
    which others are interpolated, 0 for none.
    """

    nodes: int
    inner: int
    outer: int
    close: float
    step: float


FINE: Final = Scheme(7, 12, 16, 1e-6, 0.0)
"""Errors of a premium: 3e-7 of the strike on average, at most about 2e-5."""
QUICK: Final = Scheme(6, 8, 12, 1e-4, 0.5)
"""For whole chains: 2e-6 on average, where an option is all but exercised up to 5e-4."""

_MOST_STEPS: Final = 16
_LEAST: Final = 1e-200
_R, _C = sqrt(0.5), 1 / sqrt(2 * pi)


class EarlyExercise:
    """The premium for early exercise of all puts of one expiry (of strike 1), by m and sigma.

    Boundaries are found as they are wanted, and kept. ``near`` is one with almost the same terms, to start
    the search from. With a ``delay`` one may exercise only after so many years, and then for ``years``.
    """

    __slots__ = (
        "_boundaries", "_near", "_rows", "_scheme", "_start", "_times", "delay", "dividend_yield", "rate",
        "years",
    )  # fmt: skip

    def __init__(
        self,
        rate: float,
        dividend_yield: float,
        years: float,
        scheme: Scheme = FINE,
        near: EarlyExercise | None = None,
        delay: float = 0.0,
    ) -> None:
        self.rate, self.dividend_yield, self.years, self.delay = rate, dividend_yield, years, delay
        self._scheme, self._near = scheme, near
        self._start = log(_limit(rate, dividend_yield))
        self._boundaries: dict[float, tuple[Nodes, Nodes]] = {}
        self._rows = _weights(scheme[:3])[2]
        # weight, r e^(-r t), q e^(-q t), root of t, drift in t, e^(-r t)
        self._times = []
        for share, weight, _ in self._rows:
            t = delay + years * share
            paid, lost = exp(-rate * t), dividend_yield * exp(-dividend_yield * t)
            drift = (rate - dividend_yield) * t
            self._times.append((0.5 * years * weight, rate * paid, lost, sqrt(t), drift, paid))

    def premium(self, m: float, sigma: float) -> float:
        """What the right to exercise before expiry is worth, as a share of the strike."""
        total, spot = 0.0, exp(m)
        for (weight, paid, lost, root, drift, _), boundary in zip(
            self._times, self._boundary(sigma), strict=True
        ):
            s = sigma * root
            d1 = (m - boundary + drift) / s + 0.5 * s
            here = paid * erfc(_R * (d1 - s))
            total += weight * (here - lost * spot * erfc(_R * d1) if lost else here)
        return max(total, 0.0)

    def derivatives(self, m: float, sigma: float) -> tuple[float, float]:
        """The first and the second derivative of the premium in m."""
        first = second = 0.0
        spot, r, q = exp(m), self.rate, self.dividend_yield
        for (weight, _, lost, root, drift, discount), boundary in zip(
            self._times, self._boundary(sigma), strict=True
        ):
            s = sigma * root
            d1 = (m - boundary + drift) / s + 0.5 * s
            d2 = d1 - s
            bell = 2 * _C * exp(-0.5 * d2 * d2) * discount / s
            stock = q * exp(boundary) * bell
            gone = lost * spot * erfc(_R * d1)
            first += weight * (stock - r * bell - gone)
            second += weight * ((r * bell - stock) * d2 / s + stock - gone)
        return first, second

    def _boundary(self, sigma: float) -> Nodes:
        """ln B at the times of the premium's integral."""
        step = self._scheme.step
        if not step:
            logs = self._known(sigma)[1]
            return [self._start - exp(each) for each in logs]
        at = log(sigma) / step
        low = floor(at)
        x = at - low
        a, b = x * (x - 1), (x + 1) * (x - 2)
        c0, c1, c2, c3 = -a * (x - 2) / 6, b * (x - 1) / 2, -b * x / 2, a * (x + 1) / 6
        known = (self._known(exp((low + way) * step))[1] for way in (-1, 0, 1, 2))
        return [
            self._start - exp(c0 * first + c1 * second + c2 * third + c3 * fourth)
            for first, second, third, fourth in zip(*known, strict=True)
        ]

    def _known(self, sigma: float) -> tuple[Nodes, Nodes]:
        """The boundary's nodes, and ln of how far ln B lies below its limit at the premium's times."""
        found = self._boundaries.get(sigma)
        if found is None:
            guess = None if self._near is None else self._near._known(sigma)[0]
            nodes = boundary_nodes(
                self.rate, self.dividend_yield, sigma, self.years, self._scheme, guess
            )
            squares = [ratio * ratio for ratio in nodes]
            least = max(0.01 * squares[-1], _LEAST)  # right before expiry the polynomial may swing below 0
            found = self._boundaries[sigma] = nodes, [
                0.5 * log(max(sum(map(mul, row, squares)), least)) for _, _, row in self._rows
            ]
        return found


def early_exercise(
    rate: float, dividend_yield: float, years: float, scheme: Scheme = FINE, delay: float = 0.0
) -> EarlyExercise | None:
    """What puts of this expiry gain by it, after a ``delay``; None when they are never exercised early.

    ArithmeticError for q < r < 0, where two boundaries enclose the prices at which one exercises.
    """
    if rate <= 0 and dividend_yield >= rate:
        return None
    if rate < 0:
        raise ArithmeticError("two boundaries")
    return EarlyExercise(rate, dividend_yield, years - delay, scheme, delay=delay)


def boundary_nodes(
    rate: float,
    dividend_yield: float,
    sigma: float,
    years: float,
    scheme: Scheme = FINE,
    guess: Nodes | None = None,
) -> Nodes:
    """ln(B / B(0)), 0 or less, at the nodes: from the time to expiry on to times next to expiry."""
    ahead, inner, _ = _weights(scheme[:3])
    carry, start = rate - dividend_yield, log(_limit(rate, dividend_yield))
    times = [years * x * x for x in ahead]
    known = guess or _first_guess(rate, dividend_yield, sigma, times)
    terms = []
    for time, rows in zip(times, inner, strict=True):
        places = []
        for share, weight, row in rows:
            s, until = sigma * sqrt(time * share), time * (1 - share)
            paid = 0.5 * weight * time * rate * exp(rate * until)
            lost = 0.5 * weight * time * dividend_yield * exp(dividend_yield * until)
            places.append((paid, lost, _R / s, _R * (carry * time * share / s + 0.5 * s), _R * s, row))
        terms.append((carry * time, sigma * sqrt(time), places))
    for _ in range(_MOST_STEPS):
        squares = [ratio * ratio for ratio in known]
        moved: Nodes = []
        for here, (drift, s, places) in zip(known, terms, strict=True):
            d2 = (here + start + drift) / s - 0.5 * s
            above, below = 0.5 * erfc(-_R * d2), 0.5 * erfc(-_R * (d2 + s))
            for paid, lost, slope, shift, width, row in places:
                square = sum(map(mul, row, squares))
                z = (here + sqrt(square) if square > 0 else here) * slope + shift
                above += paid * erfc(width - z)
                if lost:
                    below += lost * erfc(-z)
            # So far out that nothing of either is left, it stays.
            moved.append(min(log(above / below) - drift - start, 0.0) if above > 0 < below else here)
        change = max(abs(new - old) for new, old in zip(moved, known, strict=True))
        known = moved
        if change < scheme.close:
            break
    return known


def _limit(rate: float, dividend_yield: float) -> float:
    """B right before expiry."""
    return min(1.0, rate / dividend_yield) if dividend_yield > 0 else 1.0


def _first_guess(rate: float, dividend_yield: float, sigma: float, times: Sequence[float]) -> Nodes:
    """On the way from the limit at expiry to the boundary of a put that never expires."""
    top, carry = _limit(rate, dividend_yield), rate - dividend_yield
    n = 2 * carry / (sigma * sigma) - 1
    power = -(n + sqrt(n * n + 8 * rate / (sigma * sigma))) / 2
    forever = power / (power - 1)
    if not 0 <= forever < top:
        return [0.0] * len(times)
    guess = []
    for time in times:
        h = min((carry * time - 2 * sigma * sqrt(time)) / (1 - forever), 0.0)
        guess.append(log(max((forever + (top - forever) * exp(h)) / top, _LEAST)))
    return guess


Row = tuple[float, float, Nodes]


@lru_cache(maxsize=2)
def _weights(counts: tuple[int, int, int]) -> tuple[Nodes, list[list[Row]], list[Row]]:
    """The nodes as shares of the root of time; the places of the integrals up to each, and of the premium's.

    A place is t as a share of the time to expiry, its weight, and what each node counts there.
    """
    count, inside, outside = counts
    ahead = [(1 + cos(pi * at / count)) / 2 for at in range(count)]
    points = gauss(inside)
    inner = [_places(count, x, points) for x in ahead]
    return ahead, inner, _places(count, 1.0, gauss(outside))


def _places(count: int, x: float, points: Sequence[tuple[float, float]]) -> list[Row]:
    places = []
    for point, weight in points:
        share = (1 + point) ** 2 / 4
        places.append((share, weight * (1 + point) / 2, _counts(count, 2 * x * sqrt(1 - share) - 1)))
    return places


def _counts(count: int, z: float) -> Nodes:
    """What each Chebyshev node counts in the value at ``z`` (barycentric; the value at the last one is 0)."""
    parts = []
    for at in range(count + 1):
        weight = (-1) ** at * (0.5 if at in {0, count} else 1.0)
        parts.append(weight / (z - cos(pi * at / count)))
    whole = sum(parts)
    return [part / whole for part in parts[:count]]


@lru_cache(maxsize=4)
def gauss(count: int) -> list[tuple[float, float]]:
    """Points and weights of Gauss and Legendre on [-1, 1]."""
    found = []
    for at in range(count):
        x, slope = cos(pi * (at + 0.75) / (count + 0.5)), 1.0
        for _ in range(20):
            before, here = 1.0, x
            for n in range(2, count + 1):
                before, here = here, ((2 * n - 1) * x * here - (n - 1) * before) / n
            slope = count * (x * here - before) / (x * x - 1)
            x -= here / slope
        found.append((x, 2 / ((1 - x * x) * slope * slope)))
    return found
