"""Which price a leg is computed with, and in which unit its vendor speaks of volatility."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.analytics.prices import Unit, as_decimals, choose, volatility_unit

TICK = 0.05
field = st.one_of(st.none(), st.floats(), st.floats(0, 100))


def chosen(
    bid: float | None,
    ask: float | None,
    last: float | None,
) -> tuple[float | None, str | None, str | None]:
    """Price, source and flag of one leg."""
    prices, sources, flags = choose([bid], [ask], [last], TICK)
    return prices[0], sources[0], flags.get(0)


@pytest.mark.parametrize(
    ("bid", "ask", "last", "expected"),
    [
        (10.0, 10.5, 9.0, (10.25, "mid", None)),
        (10.0, 10.0, 9.0, (10.0, "mid", None)),
        (10.5, 10.0, 9.0, (9.0, "last", "crossed")),
        (10.5, 10.0, None, (None, None, "crossed")),
        (0.0, 0.10, 0.05, (0.05, "last", None)),
        (0.0, 0.10, 0.15, (0.15, "last", "beyond_quote")),
        (2.0, 0.0, 1.5, (1.5, "last", "beyond_quote")),
        (2.0, None, 2.5, (2.5, "last", None)),
        (0.0, 0.10, None, (None, None, "no_bid")),
        (0.0, 0.10, 0.0, (None, None, "no_bid")),
        (None, None, 7.0, (7.0, "last", None)),
        (0.0, 0.0, 0.0, (None, None, "no_price")),
        (None, None, None, (None, None, "no_price")),
        (3.0, None, None, (None, None, "no_price")),
    ],
)
def test_the_price_is_the_mid_and_else_the_last_trade(
    bid: float | None, ask: float | None, last: float | None, expected: tuple[object, ...]
) -> None:
    assert chosen(bid, ask, last) == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.05])
def test_a_field_that_is_no_price_counts_as_not_sent(bad: float) -> None:
    assert chosen(bad, 10.0, 9.0) == chosen(None, 10.0, 9.0) == (9.0, "last", None)
    assert chosen(10.0, bad, 11.0) == chosen(10.0, None, 11.0) == (11.0, "last", None)
    assert chosen(None, None, bad) == (None, None, "no_price")
    assert chosen(bad, bad, bad) == (None, None, "no_price")


@pytest.mark.parametrize(
    ("bid", "ask", "flag"),
    [
        (1.0, 1.50, None),  # 40 % of the mid
        (1.0, 1.70, "wide"),  # 52 % and 14 ticks
        (0.05, 0.30, None),  # 143 %, but 5 ticks
        (0.05, 0.35, "wide"),  # 6 ticks
        (100.0, 140.0, None),
    ],
)
def test_a_spread_is_wide_above_half_the_mid_and_above_five_ticks(
    bid: float, ask: float, flag: str | None
) -> None:
    assert chosen(bid, ask, None) == (pytest.approx((bid + ask) / 2), "mid", flag)


def test_where_a_price_was_taken_out_for_its_age_its_absence_is_stale() -> None:
    none, seven, one = [None] * 3, [7.0] * 3, [1.0, 1.0, None]
    assert choose(none, none, none, TICK, {0, 2})[2] == {0: "stale", 1: "no_price", 2: "stale"}
    assert choose(none, one, none, TICK, {0})[2] == {0: "stale", 1: "no_bid", 2: "no_price"}
    # What is left may be price enough.
    assert choose(none, none, seven, TICK, {0, 1, 2}) == (seven, ["last"] * 3, {})


@settings(deadline=None)
@given(st.lists(st.tuples(field, field, field, st.booleans())))
def test_every_leg_has_a_finite_price_from_a_named_source_or_a_reason(
    legs: list[tuple[float | None, float | None, float | None, bool]],
) -> None:
    bids, asks, lasts = ([leg[at] for leg in legs] for at in range(3))
    stale = {at for at, leg in enumerate(legs) if leg[3]}
    prices, sources, flags = choose(bids, asks, lasts, TICK, stale)
    assert len(prices) == len(sources) == len(legs)
    for at, (worth, source) in enumerate(zip(prices, sources, strict=True)):
        bid, ask, last = legs[at][:3]
        if worth is None:
            assert source is None
            assert flags[at] in {"crossed", "stale", "no_bid", "no_price"}
        elif source == "mid":
            assert bid is not None
            assert ask is not None
            assert 0 < bid <= ask < math.inf
            assert worth == pytest.approx((bid + ask) / 2)
        else:
            assert source == "last"
            assert worth == last
            assert 0 < worth < math.inf


@pytest.mark.parametrize(
    ("vendor", "unit"),
    [
        ([12.5, 13.0, 40.0], "percent"),
        ([0.125, 0.13, 4.0], "decimal"),
        ([120.0, 90.0], "percent"),
        ([1.2, 0.9], "decimal"),
        ([3.1], "percent"),
        ([2.9], "decimal"),
        ([0, None, math.nan, -1.0], None),
        ([0, 0, 0, 14.0], "percent"),
    ],
)
def test_the_unit_of_a_chain_shows_in_its_median(vendor: list[float | None], unit: Unit | None) -> None:
    assert volatility_unit(vendor) == unit


def test_a_known_unit_changes_only_on_clear_evidence() -> None:
    assert volatility_unit([4.9], before="decimal") == "decimal"
    assert volatility_unit([1.6], before="percent") == "percent"
    assert volatility_unit([5.1], before="decimal") == "percent"
    assert volatility_unit([1.4], before="percent") == "decimal"


def test_volatilities_of_our_own_settle_the_unit() -> None:
    own = [0.03, 0.031, 0.032, None]
    assert volatility_unit([3.0, 3.1, 3.3, 90.0], own, before="decimal") == "percent"
    assert volatility_unit([3.0, 3.1, 3.3, None], [3.0, 3.2, 3.1, 3.0], before="percent") == "decimal"
    assert volatility_unit([3.0, None, None, 0], own, before="decimal") == "decimal"


def test_volatilities_become_decimals_and_zero_is_none() -> None:
    assert as_decimals([12.5, 0, None, math.nan, -3.0], "percent").values == [0.125, None, None, None, None]
    assert as_decimals([0.125], "decimal").values == [0.125]


def test_a_leg_in_the_other_unit_is_read_in_it_where_its_own_price_tells() -> None:
    found = as_decimals([12.5, 0.13, 14.0], "percent", [0.12, 0.131, None])
    assert found.values == pytest.approx([0.125, 0.13, None])
    assert (list(found.odd), list(found.unclear)) == ([1], [2])
    found = as_decimals([0.125, 13.0], "decimal", [0.12, 0.131])
    assert found.values == pytest.approx([0.125, 0.13])


def test_a_side_that_is_all_in_the_other_unit_is_so_where_nothing_was_computed_too() -> None:
    found = as_decimals([0.12, 0.13, 0.0, 0.14], "percent", [0.12, None, None, 0.139])
    assert found.values == pytest.approx([0.12, 0.13, None, 0.14])
    assert list(found.odd) == [0, 1, 3]


@pytest.mark.parametrize("own", [None, 0.02, 0.2, 1.2, 3.5, 40.0, 1e-4])
def test_a_volatility_that_is_merely_another_one_keeps_its_unit(own: float | None) -> None:
    """The own one of an option deep in the money rests on a sliver of its price."""
    for vendor, unit in ((12.5, "percent"), (0.125, "decimal")):
        found = as_decimals([vendor], unit, [own])
        assert (found.values, list(found.odd)) == ([0.125], [])
