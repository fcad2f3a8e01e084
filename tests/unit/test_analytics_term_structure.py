"""What the expiries say together: constant maturities, forward variance, and falls of total variance."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.term_structure import (
    Maturity,
    calendar_violations,
    constant_maturity,
    forward_variances,
)
from enricher.analytics.volatility_smile import smile

terms = st.lists(
    st.tuples(st.integers(1, 400), st.floats(0.05, 2.0)),
    min_size=1,
    max_size=12,
    unique_by=lambda term: term[0],
).map(sorted)


@given(terms, st.integers(1, 400))
def test_a_constant_maturity_is_linear_in_total_variance_and_never_beyond_the_expiries(
    found: list[tuple[int, float]], days: int
) -> None:
    years = [day / 365 for day, _ in found]
    ws = [iv * iv * t for t, (_, iv) in zip(years, found, strict=True)]
    told = constant_maturity(years, ws, days)
    if found[0][0] <= days <= found[-1][0]:
        assert told.iv == pytest.approx(sqrt(np.interp(days / 365, years, ws) / (days / 365)))
    else:
        assert told == Maturity(days, None, "not_bracketed")


def test_no_time_to_go_is_no_expiry_to_interpolate_from() -> None:
    assert constant_maturity([9 / 365], [0.001], 7) == Maturity(7, None, "not_bracketed")
    assert constant_maturity([], [], 7) == Maturity(7, None, "not_bracketed")


def test_a_maturity_between_expiries_that_contradict_each_other_is_flagged() -> None:
    told = constant_maturity([20 / 365, 40 / 365], [0.02, 0.01], 30)
    assert told.iv == pytest.approx(sqrt(0.015 / (30 / 365)))
    assert told.reason == "calendar_violation"


@given(terms)
def test_forward_variances_add_up_to_the_total(found: list[tuple[int, float]]) -> None:
    years = [day / 365 for day, _ in found]
    ws = [float(w) for w in np.cumsum([iv * iv / 365 for _, iv in found])]
    forwards = forward_variances(years, ws)
    assert [forward.reason for forward in forwards] == [None] * (len(found) - 1)
    gained = sum((f.variance or 0) * (f.far_years - f.near_years) for f in forwards)
    assert ws[0] + gained == pytest.approx(ws[-1])


def test_a_falling_total_variance_has_no_forward_variance() -> None:
    (told,) = forward_variances([0.1, 0.2], [0.02, 0.01])
    assert (told.variance, told.volatility, told.reason) == (None, None, "calendar_violation")


def test_an_equal_total_variance_is_a_forward_variance_of_nothing() -> None:
    (told,) = forward_variances([0.1, 0.2], [0.02, 0.02])
    assert (told.variance, told.volatility, told.reason) == (0, 0, None)


def test_two_expiries_of_one_moment_have_nothing_between_them() -> None:
    (told,) = forward_variances([0.1, 0.1], [0.01, 0.02])
    assert told.reason == "same_time"


ladders = st.lists(
    st.tuples(st.floats(0.05, 1.0), st.lists(st.floats(0.1, 0.9), min_size=2, max_size=6), st.integers(0, 3)),
    min_size=2,
    max_size=4,
)


@given(ladders)
def test_no_fall_between_neighbouring_expiries_is_larger_than_those_found(
    found: list[tuple[float, list[float], int]],
) -> None:
    smiles = []
    for years, ivs, first in found:
        strikes = [80.0 + 7 * first + 9 * at for at in range(len(ivs))]
        smiles.append(smile(strikes, ivs, ivs, 100, years))
    told = calendar_violations(smiles)
    amounts = [violation.amount for violation in told]
    assert amounts == sorted(amounts, reverse=True)
    falls = [0.0]
    grid = np.linspace(-0.4, 0.4, 801)
    for near, far in pairwise(sorted(smiles, key=lambda one: one.years)):
        if near.years < far.years:
            less = np.interp(grid, near.k, near.w, left=np.nan, right=np.nan)
            more = np.interp(grid, far.k, far.w, left=np.nan, right=np.nan)
            falls += [fall for fall in less - more if fall > 0]
    assert max(falls) <= max([*amounts, 0.0]) + 1e-12
    for violation in told:
        assert violation.near_years < violation.far_years
        assert violation.amount > 0
