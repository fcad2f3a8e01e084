"""Raw SVI: five numbers that describe a whole smile, fitted to its nodes, and whether they allow arbitrage.

w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2)), with k = ln(K/F) and w = (volatility)^2 T, T in
years of 365 days. b >= 0, |rho| <= 1, sigma > 0 and w > 0 everywhere. The wings rise by b (1 + rho) on
the right and b (1 - rho) on the left, and no wing may rise faster than 2 (Lee 2004): that is the bound on w
below which g(k) can be positive far out; the 4 that is met in older notes leaves room for arbitrage.

The fit is quasi-explicit (Zeliade Systems, Quasi-explicit calibration of Gatheral's SVI model, 2009): for
given m and sigma the best a, b and rho are a small linear problem in a square, solved exactly, so that only m
and sigma are searched: a coarse grid, then Levenberg-Marquardt. Source of g: J. Gatheral and A. Jacquier,
Arbitrage-free SVI volatility surfaces, 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import asinh, exp, inf, isfinite, log, sinh, sqrt
from operator import mul
from typing import Final

import msgspec

from enricher.analytics.steps import Steps, at_once

LEAST_NODES: Final = 5
STEEPEST_WING: Final = 2.0

_STEP_NODES = 600  # nodes looked at before the loop is given a turn: a millisecond or two on a slow core
_GRID_M = (0.0, 0.25, 0.5, 0.75, 1.0)  # shares of the nodes' span
_GRID_SIGMA = (0.03, 0.1, 0.3, 1.0)  # multiples of the nodes' span
_COARSE_NODES = 40
_ITERATIONS = 20
_DIFFERENCE = 1e-6
_SETTLED = 1e-9
_SETTLED_COST = 1e-6
_GRID_POINTS = 100
_DIP = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)

Turns = Steps["SviFit"]
_Solution = tuple[float, list[float], float, float, float]  # cost, residuals, a, c, d


class Svi(msgspec.Struct, frozen=True, gc=False):
    """The five parameters of raw SVI, of total variance."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def total_variance(self, k: float) -> float:
        """w at k = ln(K/F)."""
        x = k - self.m
        return self.a + self.b * (self.rho * x + sqrt(x * x + self.sigma * self.sigma))

    def volatility(self, k: float, years: float) -> float | None:
        """sqrt(w/T), a decimal a year; None where w is negative or nothing is left of T."""
        w = self.total_variance(k)
        return sqrt(w / years) if w >= 0 and years > 0 else None


class Butterfly(msgspec.Struct, frozen=True, gc=False):
    """Where g(k) is least between ``low`` and ``high``; a butterfly costs less than nothing where g < 0.

    g is positive wherever the smile implies a positive density; -1e300 stands for a w that is not positive.
    """

    low: float
    high: float
    worst_k: float
    worst_g: float

    @property
    def free(self) -> bool:
        """Whether no butterfly can be bought for less than nothing."""
        return self.worst_g >= 0


class SviFit(msgspec.Struct, frozen=True, gc=False):
    """A fitted smile; without ``svi`` the ``reason`` says why: ``expired`` or ``too_few_nodes``.

    ``rmse`` and ``worst`` are the root mean square and the largest error over the nodes, unweighted, in
    volatility points (1 is 1 %). ``butterfly`` looks half the nodes' span beyond them on either side.
    """

    svi: Svi | None
    nodes: int
    rmse: float | None = None
    worst: float | None = None
    butterfly: Butterfly | None = None
    reason: str | None = None


def fit(
    ks: Sequence[float], ws: Sequence[float], years: float, weights: Sequence[float] | None = None
) -> SviFit:
    """The raw SVI that is nearest to the nodes; `fit_steps` says what is fitted and how."""
    return at_once(fit_steps(ks, ws, years, weights))


def fit_steps(
    ks: Sequence[float], ws: Sequence[float], years: float, weights: Sequence[float] | None = None
) -> Turns:
    """`fit` as a generator that yields often, to give the event loop a turn, and returns the fit.

    ``ks`` ascend, ``ws`` are positive total variances. What is least is the sum of weight times the squared
    error of volatility, to first order. Weights are the nodes' vegas unless given (1/spread, say); only their
    ratios count. None is fitted to fewer than 5 nodes, which five parameters would meet whatever they are.
    ValueError for columns of unequal length and for what is not positive and finite.
    """
    n = len(ks)
    if n < LEAST_NODES or years <= 0:
        return SviFit(None, n, reason="expired" if years <= 0 else "too_few_nodes")
    _check(ks, ws, weights or [1.0] * n)
    if weights is None:
        weights = list(map(_vega, ks, ws))
    roots = [sqrt(weight / w) for weight, w in zip(weights, ws, strict=True)]
    least = min(ws) * 1e-4
    problem = _Problem(ks, ws, roots, least)
    start = yield from _coarse(problem)
    m, sigma = yield from _refined(problem, *start)
    _, _, a, c, d = problem.solve(m, sigma)
    yield
    svi = Svi(a, c / sigma, max(-1.0, min(1.0, d / c)) if c > 0 else 0.0, m, sigma)
    points = 100 / sqrt(years)
    errors = [points * (sqrt(svi.total_variance(k)) - sqrt(w)) for k, w in zip(ks, ws, strict=True)]
    half = (ks[-1] - ks[0]) / 2
    return SviFit(
        svi,
        n,
        sqrt(sum(map(mul, errors, errors)) / n),
        max(map(abs, errors)),
        butterfly(svi, ks[0] - half, ks[-1] + half),
    )


def g(svi: Svi, k: float) -> float:
    """The density's sign at k: (1 - k w'/2w)^2 - (w'^2/4)(1/w + 1/4) + w''/2; -1e300 where w <= 0."""
    x = k - svi.m
    root = sqrt(x * x + svi.sigma * svi.sigma)
    w = svi.a + svi.b * (svi.rho * x + root)
    if w <= 0:
        return -1e300
    rise = svi.b * (svi.rho + x / root)
    bend = svi.b * svi.sigma * svi.sigma / (root * root * root)
    level = 1 - 0.5 * k * rise / w
    return level * level - 0.25 * rise * rise * (1 / w + 0.25) + 0.5 * bend


def butterfly(svi: Svi, low: float, high: float, points: int = _GRID_POINTS) -> Butterfly:
    """The least g between two k, on a grid that is dense where the smile bends, then narrowed down."""
    m, sigma = svi.m, svi.sigma
    first, last = asinh((low - m) / sigma), asinh((high - m) / sigma)
    step = (last - first) / (points - 1)
    grid = [m + sigma * sinh(first + at * step) for at in range(points)]
    grid[0], grid[-1] = low, high
    grid = sorted({*grid, *(k for k in _near_bottom(svi) if low < k < high)})
    values = [g(svi, k) for k in grid]
    best, best_k = min(zip(values, grid, strict=True))
    last_at = len(grid) - 1
    for at, value in enumerate(values):
        left, right = max(0, at - 1), min(last_at, at + 1)
        if values[left] >= value <= values[right]:
            best, best_k = min((best, best_k), _narrowed(svi, grid[left], grid[right]))
    return Butterfly(low, high, best_k, best)


def _narrowed(svi: Svi, left: float, right: float) -> tuple[float, float]:
    """The least g between two k by thirds, and where."""
    best = inf, left
    for _ in range(30):
        third = (right - left) / 3
        one, other = left + third, right - third
        g_one, g_other = g(svi, one), g(svi, other)
        if g_one < g_other:
            right, best = other, min(best, (g_one, one))
        else:
            left, best = one, min(best, (g_other, other))
    return best


def _near_bottom(svi: Svi) -> list[float]:
    """Where w is least, and points around the near place where k w' = 2 w: there g dips, perhaps narrowly."""
    narrow = sqrt(max(1 - svi.rho * svi.rho, 0.0))
    if not narrow or not svi.b > 0:
        return []
    bottom = svi.m - svi.rho * svi.sigma / narrow
    left, rise = svi.total_variance(bottom), bottom * svi.b * narrow * narrow * narrow / svi.sigma
    if not (left > 0 and rise):
        return [bottom]
    # w = left + w'' x^2 / 2 with x = k - bottom, so that k w' = 2 w at x = 2 left / (bottom w'').
    return [bottom, *(bottom + share * (2 * left / rise) for share in _DIP)]


def _vega(k: float, w: float) -> float:
    """phi(d1), floored: a node so far out that its vega vanishes must not make the problem singular."""
    root = sqrt(w)
    d1 = 0.5 * root - k / root
    return max(exp(-0.5 * d1 * d1), 1e-6)


def _check(ks: Sequence[float], ws: Sequence[float], weights: Sequence[float]) -> None:
    for k, w, weight in zip(ks, ws, weights, strict=True):
        if not (isfinite(k) and 0 < w < inf and 0 < weight < inf):
            raise ValueError(f"a node needs a finite k and a positive w and weight, not {k}, {w}, {weight}")
    for before, k in pairwise(ks):
        if k <= before:
            raise ValueError(f"k must ascend, but {k} follows {before}")


class _Problem:
    """Least squares of the nodes for given m and sigma.

    With y = (k - m)/sigma and z = sqrt(1 + y^2): w = a + c z + d y, where c = b sigma and d = rho b sigma.
    |rho| <= 1 and the bound on the wings make (c, d) lie in a square that stands on its corner.
    """

    __slots__ = ("high", "ks", "least", "low", "roots", "span", "total", "weighted", "weights", "ws")

    def __init__(
        self, ks: Sequence[float], ws: Sequence[float], roots: Sequence[float], least: float
    ) -> None:
        self.ks, self.ws, self.roots, self.least = ks, ws, roots, least
        self.weights = list(map(mul, roots, roots))
        self.total = sum(self.weights)
        self.weighted = list(map(mul, self.weights, ws))
        self.low, self.high = ks[0], ks[-1]
        self.span = ks[-1] - ks[0]

    def solve(self, m: float, sigma: float) -> _Solution:
        """The best a, c and d, the weighted residuals and the sum of their squares."""
        weights, total, weighted = self.weights, self.total, self.weighted
        inverse = 1 / sigma
        ys = [(k - m) * inverse for k in self.ks]
        # z - 1, written so that nothing cancels when sigma is wide and all y are small.
        zs = [y * y / (1 + sqrt(1 + y * y)) for y in ys]
        wy, wz = list(map(mul, weights, ys)), list(map(mul, weights, zs))
        y0, z0, w0 = sum(wy) / total, sum(wz) / total, sum(weighted) / total
        yy = sum(map(mul, wy, ys)) - total * y0 * y0
        yz = sum(map(mul, wy, zs)) - total * y0 * z0
        zz = sum(map(mul, wz, zs)) - total * z0 * z0
        yw = sum(map(mul, weighted, ys)) - total * y0 * w0
        zw = sum(map(mul, weighted, zs)) - total * z0 * w0
        c, d = _in_square(yy, yz, zz, yw, zw, sigma * STEEPEST_WING / 2)
        base = w0 - d * y0 - c * z0  # a + c, for z - 1 stands in place of z
        deepest = base - c + sqrt(max(c * c - d * d, 0.0))
        if deepest < self.least:
            base += self.least - deepest
        residuals = [
            root * (base + c * z + d * y - w)
            for root, y, z, w in zip(self.roots, ys, zs, self.ws, strict=True)
        ]
        return sum(map(mul, residuals, residuals)), residuals, base - c, c, d


def _in_square(yy: float, yz: float, zz: float, yw: float, zw: float, half: float) -> tuple[float, float]:
    """The (c, d) of least zz c^2 + 2 yz c d + yy d^2 - 2 zw c - 2 yw d with |d| <= c and c + |d| <= 2 half.

    The function is convex: if its least lies outside, the least inside is on one of the four edges.
    """
    whole = yy * zz - yz * yz
    if whole > 1e-14 * yy * zz:
        c, d = (zw * yy - yw * yz) / whole, (yw * zz - zw * yz) / whole
        if abs(d) <= c and c + abs(d) <= 2 * half:
            return c, d
    best, solution = inf, (0.0, 0.0)
    corners = ((0.0, 0.0), (half, half), (2 * half, 0.0), (half, -half))
    for at, (c0, d0) in enumerate(corners):
        c1, d1 = corners[(at + 1) % 4]
        ec, ed = c1 - c0, d1 - d0
        bend = zz * ec * ec + 2 * yz * ec * ed + yy * ed * ed
        fall = ec * (zw - zz * c0 - yz * d0) + ed * (yw - yz * c0 - yy * d0)
        share = min(max(fall / bend, 0.0), 1.0) if bend > 0 else float(fall > 0)
        c, d = c0 + share * ec, d0 + share * ed
        value = zz * c * c + 2 * yz * c * d + yy * d * d - 2 * (zw * c + yw * d)
        if value < best:
            best, solution = value, (c, d)
    return solution


def _coarse(problem: _Problem) -> Steps[tuple[float, float]]:
    """The best m and sigma of a coarse grid, on every so many-th node."""
    thin = -(-len(problem.ks) // _COARSE_NODES)
    if thin > 1:
        every = slice(None, None, thin)
        problem = _Problem(problem.ks[every], problem.ws[every], problem.roots[every], problem.least)
    best, start, looked_at = inf, (0.0, problem.span), 0
    for share in _GRID_M:
        m = problem.low + share * problem.span
        for multiple in _GRID_SIGMA:
            cost = problem.solve(m, multiple * problem.span)[0]
            if cost < best:
                best, start = cost, (m, multiple * problem.span)
            looked_at += len(problem.ks)
            if looked_at > _STEP_NODES:
                looked_at = 0
                yield
    return start


def _refined(problem: _Problem, m: float, sigma: float) -> Steps[tuple[float, float]]:
    """Levenberg-Marquardt in m and ln(sigma), from there to where the cost is least."""
    span, looked_at, damping = problem.span, 0, 1e-3
    low, high = problem.low - span, problem.high + span
    narrow, wide = log(1e-3 * span), log(10 * span)
    x = log(sigma)
    cost, residuals, *_ = problem.solve(m, exp(x))
    for _ in range(_ITERATIONS):
        shift = _DIFFERENCE * span
        by_m = problem.solve(m + shift, exp(x))[1]
        by_x = problem.solve(m, exp(x + _DIFFERENCE))[1]
        mm = mx = xx = mr = xr = 0.0
        for moved_m, moved_x, r in zip(by_m, by_x, residuals, strict=True):
            jm, jx = (moved_m - r) / _DIFFERENCE, (moved_x - r) / _DIFFERENCE
            mm += jm * jm
            mx += jm * jx
            xx += jx * jx
            mr += jm * r
            xr += jx * r
        tried, better = 0, False
        while not better and tried < 8:
            tried += 1
            am, ax = mm * (1 + damping), xx * (1 + damping)
            whole = am * ax - mx * mx
            if whole <= 0:
                return m, exp(x)
            to_m = min(max(m - span * (mr * ax - xr * mx) / whole, low), high)
            to_x = min(max(x - (xr * am - mr * mx) / whole, narrow), wide)
            new, moved, *_ = problem.solve(to_m, exp(to_x))
            better = new < cost
            damping = max(damping * 0.1, 1e-12) if better else damping * 10
            looked_at += len(residuals)
            if looked_at > _STEP_NODES:
                looked_at = 0
                yield
        if not better:
            break
        step = max(abs(to_m - m) / span, abs(to_x - x))
        settled = step < _SETTLED or cost - new < _SETTLED_COST * new
        m, x, cost, residuals = to_m, to_x, new, moved
        looked_at += 3 * len(residuals)
        if settled:
            break
        yield
    return m, exp(x)
