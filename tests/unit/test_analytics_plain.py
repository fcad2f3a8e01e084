"""What is computed by whole columns, or in fewer steps, is what the plain way gives leg by leg."""

from __future__ import annotations

from itertools import pairwise
from math import exp, fsum, isclose, log, sqrt
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from enricher.analytics.columns import INT64, total
from enricher.analytics.exposure import exposure, weighted_iv, zero_gamma
from enricher.analytics.normalised_black import _by_householder, time_value, total_volatility
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


@given(st.floats(0, 8), st.floats(1e-4, 6))
def test_a_volatility_of_one_step_is_that_of_steps_of_fourth_order(h: float, s: float) -> None:
    a = h * s
    beta = exp(-0.5 * a) * time_value(a, s)
    assume(1e-200 < beta < 0.999 * exp(-0.5 * a))
    up = exp(0.5 * a)
    near = _by_householder(beta, a, up, s)
    assert isclose(total_volatility(beta, a, up, 0.0), near, rel_tol=1e-12)
    assert isclose(total_volatility(beta, a, up, 0.99999 * s), near, rel_tol=1e-12)


held = st.one_of(st.none(), st.integers(0, 5000))
legs = st.tuples(volatilities, volatilities, held, held)


@given(st.lists(legs, min_size=1, max_size=25), st.floats(1, 60), st.sampled_from([0.002, 0.01]))
def test_zero_gamma_is_where_the_plain_sum_of_gammas_changes_sign(rows: Any, days: float, gap: float) -> None:
    strikes = [100 * (1 + gap * (at - len(rows) // 2)) for at in range(len(rows))]
    call_ivs, put_ivs, call_oi, put_oi = zip(*rows, strict=True)
    years = days / 365

    def net(price: float) -> tuple[float, float]:
        """The sum of the signed gammas, but for a factor, and that of their magnitudes."""
        parts = []
        for sign, ivs, held in ((1, call_ivs, call_oi), (-1, put_ivs, put_oi)):
            for strike, iv, amount in zip(strikes, ivs, held, strict=True):
                if iv is not None and amount:
                    s = iv * sqrt(years)
                    d1 = log(price / strike) / s + s / 2
                    parts.append(sign * amount * exp(-0.5 * d1 * d1) / s)
        return fsum(parts), fsum(map(abs, parts))

    found = zero_gamma(strikes, call_ivs, put_ivs, call_oi, put_oi, price=100.0, forward=100.0, years=years)
    if found.price is not None:
        (below, _), (above, size) = net(found.price * (1 - 1e-8)), net(found.price * (1 + 1e-8))
        assert (below <= 0 <= above if found.rising else above <= 0 <= below) or abs(above) < 1e-9 * size
        reach = abs(found.price / 100 - 1) - 0.0051
    else:
        reach = 0.0999 if found.reason == "no_sign_change" else 0.0
    seen = [net(100 * (1 + reach * step / 40)) for step in range(-40, 41)] if reach > 0 else []
    signs = [value > 0 for value, size in seen if abs(value) > 1e-6 * size]
    changes = sum(one != other for one, other in pairwise(signs))
    assert changes != 1  # two roots within a step of the search go unseen
