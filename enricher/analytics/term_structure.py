"""Across the expiries of one product: volatility to 7, 30, 60 and 90 days, and what lies between expiries.

At a fixed k = ln(K/F) total variance w = sigma^2 T is linear in time between two expiries and must not fall:
sigma is a decimal a year, T in years of 365 days. Beyond the expiries nothing is known. What cannot be known
is None, with its reason in snake_case. Sources: J. Gatheral and A. Jacquier, Arbitrage-free SVI volatility
surfaces, 2012, lemma 2.1 (w grows with T at equal k); Cboe, VIX methodology (linear in total variance).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import isclose, sqrt
from operator import attrgetter
from typing import Final

import msgspec

from enricher.analytics.volatility_smile import Smile, total_variance

DAYS: Final = (7, 30, 60, 90)
YEAR_DAYS: Final = 365.0
_ROUNDING = 1e-12  # share of w by which equal variances may differ


class Maturity(msgspec.Struct, frozen=True, gc=False):
    """The volatility to a constant number of days; None exactly when the reason is ``not_bracketed``.

    With a value, ``calendar_violation`` says that the two expiries around it contradict each other.
    """

    days: float
    iv: float | None
    reason: str | None


class ForwardVariance(msgspec.Struct, frozen=True, gc=False):
    """The variance a year between two expiries, and its square root; both are None for a reason.

    ``calendar_violation``: total variance falls. ``same_time``: the expiries are one moment.
    """

    near_years: float
    far_years: float
    variance: float | None
    volatility: float | None
    reason: str | None


class CalendarViolation(msgspec.Struct, frozen=True, gc=False):
    """At ``k`` the nearer expiry has ``amount`` more total variance than the farther one."""

    k: float
    near_years: float
    far_years: float
    amount: float


def constant_maturity(years: Sequence[float], ws: Sequence[float], days: float) -> Maturity:
    """The volatility to ``days`` from now, from total variances ``ws`` at ascending ``years``.

    Linear in w between the expiries around it. Before the first expiry and after the last there is none.
    """
    target = days / YEAR_DAYS
    at = bisect_left(years, target)
    if at < len(years) and years[at] == target:
        return Maturity(days, sqrt(ws[at] / target), None)
    if at == 0 or at == len(years):
        return Maturity(days, None, "not_bracketed")
    near, far = ws[at - 1], ws[at]
    w = near + (target - years[at - 1]) / (years[at] - years[at - 1]) * (far - near)
    return Maturity(days, sqrt(w / target), "calendar_violation" if _falls(near, far) else None)


def forward_variances(years: Sequence[float], ws: Sequence[float]) -> list[ForwardVariance]:
    """(w2 - w1) / (T2 - T1) for each expiry and the next."""
    forwards: list[ForwardVariance] = []
    for at in range(1, len(years)):
        near, far, gain = years[at - 1], years[at], ws[at] - ws[at - 1]
        if far <= near:
            forwards.append(ForwardVariance(near, far, None, None, "same_time"))
        elif _falls(ws[at - 1], ws[at]):
            forwards.append(ForwardVariance(near, far, None, None, "calendar_violation"))
        else:
            variance = max(gain, 0.0) / (far - near)
            forwards.append(ForwardVariance(near, far, variance, sqrt(variance), None))
    return forwards


def calendar_violations(smiles: Iterable[Smile]) -> list[CalendarViolation]:
    """Where total variance falls from one expiry to the next at equal k, the largest fall first.

    Judged at the nodes of both, wherever both are known: between them w is linear, so no fall is larger.
    These rest on the prices that the smiles are made of; what can be traded on is `calendars.calendar`'s.
    """
    ordered = sorted((smile for smile in smiles if smile.reason is None), key=attrgetter("years"))
    violations: list[CalendarViolation] = []
    for at in range(1, len(ordered)):
        near, far = ordered[at - 1], ordered[at]
        if near.years == far.years:
            continue
        low, high = max(near.k[0], far.k[0]), min(near.k[-1], far.k[-1])
        for k in sorted({k for k in (*near.k, *far.k) if low <= k <= high}):
            less, more = total_variance(near, k), total_variance(far, k)
            if less is not None and more is not None and _falls(less, more):
                violations.append(CalendarViolation(k, near.years, far.years, less - more))
    violations.sort(key=attrgetter("amount"), reverse=True)
    return violations


def _falls(near: float, far: float) -> bool:
    return far < near and not isclose(near, far, rel_tol=_ROUNDING)
