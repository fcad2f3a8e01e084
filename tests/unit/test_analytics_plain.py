"""What is computed by whole columns is, to the last bit, what the plain way gives leg by leg."""

from __future__ import annotations

from math import fsum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.columns import INT64, total
from enricher.analytics.exposure import exposure, weighted_iv
from enricher.analytics.variance import weighted_prices

amounts = st.one_of(
    st.none(), st.integers(-(2**62), 2**62), st.floats(-1e12, 1e12), st.sampled_from([0, 0.0, 0.5])
)
volatilities = st.one_of(st.none(), st.floats(0.01, 3.0))


def columns(of: Any, count: int = 4) -> Any:
    """So many columns of one length, which may be 0."""
    return st.integers(0, 9).flatmap(
        lambda n: st.tuples(*[st.lists(of, min_size=n, max_size=n) for _ in range(count)])
    )


@given(st.lists(amounts))
def test_a_total_is_the_sum_of_what_is_known(values: list[Any]) -> None:
    known = [value for value in values if value is not None]
    plain = sum(known)
    if not (type(plain) is int and -INT64 <= plain < INT64):
        plain = fsum(known)
    found = total(values)
    assert found == (plain if known else None)
    assert not known or type(found) is type(plain)


@given(columns(amounts))
def test_an_exposure_is_the_sum_over_the_legs_that_are_known(each: Any) -> None:
    calls, puts, call_oi, put_oi = each
    legs = [
        [v * h for v, h in zip(values, held, strict=True) if v is not None and h is not None]
        for values, held in ((calls, call_oi), (puts, put_oi))
    ]
    sides = [fsum(side) * 2.0 if side else None for side in legs]
    found = exposure(calls, puts, call_oi, put_oi, 2.0)
    assert (found.calls, found.puts, found.legs) == (*sides, sum(map(len, legs)))


@given(columns(volatilities, 2), st.data())
def test_a_weighted_volatility_is_the_mean_over_the_legs_with_a_weight(ivs: Any, data: Any) -> None:
    weights = [data.draw(st.lists(amounts, min_size=len(side), max_size=len(side))) for side in ivs]
    above, below = [], []
    for side, held in zip(ivs, weights, strict=True):
        for iv, weight in zip(side, held, strict=True):
            if iv is not None and weight is not None and weight > 0:
                above.append(iv * weight)
                below.append(weight)
    assert weighted_iv(*ivs, *weights) == (fsum(above) / fsum(below) if below else None)


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=9, unique=True), st.data())
def test_a_strip_weighs_each_price_by_half_the_gap_between_its_neighbours(ks: Any, data: Any) -> None:
    ks.sort()
    prices = data.draw(st.lists(volatilities, min_size=len(ks), max_size=len(ks)))
    parts = []
    for at, strike in enumerate(ks):
        lower, upper = ks[max(at - 1, 0)], ks[min(at + 1, len(ks) - 1)]
        gap = upper - lower if at in {0, len(ks) - 1} else (upper - lower) / 2
        parts.append(gap / (strike * strike) * 1.01 * (prices[at] or 0.0))
    assert weighted_prices(ks, prices, 1.01) == fsum(parts)
