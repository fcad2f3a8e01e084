"""What can be traded on at the quoted prices, against brute force, payoffs and a linear programme."""

from __future__ import annotations

from itertools import combinations
from math import inf, isclose

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  as its own documentation writes it
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from enricher.analytics.calendar_spreads import calendar, offers
from enricher.analytics.quote_arbitrage import ChainQuotes, Finding, Findings, check_chain, largest

STRIKES = [90.0, 95.0, 100.0, 110.0, 125.0]
NOTHING: list[float | None] = [None] * 5
Column = list[float | None]
Market = tuple[list[float], Column, Column]

EVERY = 10_000

prices = st.integers(1, 60).map(lambda price: price / 2)
quoted = st.tuples(prices, prices).map(lambda pair: (min(pair), max(pair)))
markets = st.lists(
    st.tuples(st.integers(60, 140), st.one_of(st.none(), quoted)),
    min_size=1,
    max_size=7,
    unique_by=lambda quote: quote[0],
).map(sorted)
discounts = st.sampled_from([1.0, 0.95, 1.02])


def market(found: list[tuple[int, tuple[float, float] | None]]) -> Market:
    strikes = [float(strike) for strike, _ in found]
    return strikes, [q and q[0] for _, q in found], [q and q[1] for _, q in found]


def calls(found: Market) -> ChainQuotes:
    strikes, bids, asks = found
    empty: Column = [None] * len(strikes)
    return ChainQuotes(strikes, bids, asks, empty, empty)


def puts(found: Market) -> ChainQuotes:
    strikes, bids, asks = found
    empty: Column = [None] * len(strikes)
    return ChainQuotes(strikes, empty, empty, bids, asks)


def amounts(told: Findings, *kinds: str) -> list[float]:
    return [finding.amount for finding in told.listed if finding.kind in kinds]


def black(kind: int, forward: float, strike: float, total: float, discount: float) -> float:
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if kind > 0 else ql.Option.Put, strike)
    return float(ql.BlackCalculator(payoff, forward, total, discount).value())


def fair(forward: float, total: float, discount: float, strikes: list[float] = STRIKES) -> ChainQuotes:
    """Quotes without a spread, all at one volatility."""
    call: Column = [black(1, forward, strike, total, discount) for strike in strikes]
    put: Column = [black(-1, forward, strike, total, discount) for strike in strikes]
    return ChainQuotes(strikes, call, call, put, put)


@given(st.floats(80, 130), st.floats(0.02, 1.0), discounts)
def test_fair_prices_contradict_nothing_even_without_a_spread(
    forward: float, total: float, discount: float
) -> None:
    quotes = fair(forward, total, discount)
    assert check_chain(quotes, discount, forward, forward) == Findings((), 0)


def test_a_higher_strike_that_bids_more_than_a_lower_one_asks_is_sold() -> None:
    bids: Column = [None, None, None, 6.0, None]
    asks: Column = [None, 5.5, None, 6.5, None]
    told = check_chain(ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING), 1.0)
    assert told == Findings((Finding("vertical_below_zero", "call", (95, 110), 0.5),), 1)


def test_a_spread_that_pays_more_than_its_width_is_sold() -> None:
    bids: Column = [None, None, None, 26.0, None]
    asks: Column = [None, 5.5, None, None, None]
    told = check_chain(ChainQuotes(STRIKES, NOTHING, NOTHING, bids, asks), 0.9)
    (found,) = told.listed
    assert (found.kind, found.option, found.strikes) == ("vertical_above_width", "put", (95, 110))
    assert found.amount == pytest.approx(26.0 - 5.5 - 0.9 * 15)


def test_a_body_that_bids_more_than_its_wings_ask_by_unequal_gaps_is_sold() -> None:
    bids: Column = [None, None, 8.5, None, None]
    asks: Column = [10.0, None, None, None, 3.0]
    told = check_chain(ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING), 1.0)
    (found,) = told.listed
    assert (found.kind, found.option, found.strikes) == ("butterfly", "call", (90, 100, 125))
    assert found.amount == pytest.approx(8.5 - (25 * 10 + 10 * 3) / 35)


def test_mids_that_contradict_each_other_within_the_spread_are_no_finding() -> None:
    mids = [12.0, 10.2, 8.0, 5.0, 1.0]
    spread = ChainQuotes(STRIKES, [m - 0.5 for m in mids], [m + 0.5 for m in mids], NOTHING, NOTHING)
    locked = ChainQuotes(STRIKES, list(mids), list(mids), NOTHING, NOTHING)
    assert check_chain(spread, 1.0).count == 0
    assert check_chain(locked, 1.0).count == 1


def test_a_forward_that_sells_dearer_at_one_strike_than_it_buys_at_another_is_found() -> None:
    quotes = fair(100, 0.1, 0.98)
    bids = list(quotes.call_bids)
    bids[2] = asks_more = (bids[2] or 0) + 0.25
    asks = list(quotes.call_asks)
    asks[2] = asks_more
    told = check_chain(ChainQuotes(STRIKES, bids, asks, quotes.put_bids, quotes.put_asks), 0.98)
    found = next(finding for finding in told.listed if finding.kind == "parity")
    assert (found.option, found.strikes[0]) == (None, 100)
    assert found.strikes[1] != 100
    assert found.amount == pytest.approx(0.25)


@pytest.mark.parametrize(("quoted_at", "strikes"), [(99.0, (90.0, None)), (101.0, (None, 90.0))])
def test_parity_is_judged_against_a_quoted_forward(
    quoted_at: float, strikes: tuple[float | None, float | None]
) -> None:
    told = check_chain(fair(100, 0.1, 0.98, [90.0]), 0.98, quoted_at, quoted_at)
    assert told.count == 1
    assert (told.listed[0].kind, told.listed[0].strikes) == ("parity", strikes)
    assert told.listed[0].amount == pytest.approx(0.98)


def test_a_strike_is_not_judged_by_its_own_forward() -> None:
    lone = ChainQuotes([100.0], [5.0], [5.1], [4.0], [4.1])
    assert check_chain(lone, 1.0).count == 0
    assert check_chain(lone, 1.0, 99.0, 102.0).count == 0


def test_a_forward_s_own_bid_and_ask_are_no_contradiction_of_the_chain() -> None:
    lone = ChainQuotes([100.0], [None], [None], [None], [None])
    assert check_chain(lone, 1.0, 102.0, 99.0).count == 0


@given(markets, discounts)
def test_no_pair_and_no_triple_pays_more_than_what_is_found(
    found: list[tuple[int, tuple[float, float] | None]], discount: float
) -> None:
    strikes, bids, asks = market(found)
    bid = {k: -inf if b is None else b for k, b in zip(strikes, bids, strict=True)}
    ask = {k: inf if a is None else a for k, a in zip(strikes, asks, strict=True)}
    by_calls = check_chain(calls((strikes, bids, asks)), discount, cap=EVERY)
    by_puts = check_chain(puts((strikes, bids, asks)), discount, cap=EVERY)
    pairs = list(combinations(strikes, 2))
    below = [bid[high] - ask[low] for low, high in pairs]
    above = [bid[low] - ask[high] - discount * (high - low) for low, high in pairs]
    put_below = [bid[low] - ask[high] for low, high in pairs]
    put_above = [bid[high] - ask[low] - discount * (high - low) for low, high in pairs]
    bodies: dict[float, float] = {}
    for low, body, high in combinations(strikes, 3):
        share = (high - body) / (high - low)
        if ask[low] < inf and ask[high] < inf:
            amount = bid[body] - share * ask[low] - (1 - share) * ask[high]
            bodies[body] = max(bodies.get(body, -inf), amount)
    for told, kind, brute in (
        (by_calls, "vertical_below_zero", below),
        (by_calls, "vertical_above_width", above),
        (by_puts, "vertical_below_zero", put_below),
        (by_puts, "vertical_above_width", put_above),
    ):
        most = max([amount for amount in brute if amount > 1e-6], default=0.0)
        assert max(amounts(told, kind), default=0.0) == pytest.approx(most)
        assert bool(amounts(told, kind)) == (most > 0)
    for told in (by_calls, by_puts):
        expected = sorted((amount for amount in bodies.values() if amount > 1e-6), reverse=True)
        assert amounts(told, "butterfly") == pytest.approx(expected)


@settings(max_examples=60)
@given(markets, discounts)
def test_no_portfolio_of_calls_and_cash_pays_more_than_the_largest_finding(
    found: list[tuple[int, tuple[float, float] | None]], discount: float
) -> None:
    """The best riskless portfolio that sells at most one option, by a linear programme."""
    strikes, bids, asks = market(found)
    rows = [at for at, bid in enumerate(bids) if bid is not None]
    if not rows:
        assert check_chain(calls((strikes, bids, asks)), discount).count == 0
        return
    listed = [strikes[at] for at in rows]
    grid = [0.0, *listed, listed[-1] + 1]
    pays = np.array([[max(price - strike, 0.0) for strike in listed] for price in grid])
    # Sold, bought, cash at expiry: never worth less than 0, beyond the last strike by the slope.
    worth = np.hstack([-pays, pays, np.ones((len(grid), 1))])
    slope = np.array([[-1.0] * len(rows) + [1.0] * len(rows) + [0.0]])
    one = np.array([[1.0] * len(rows) + [0.0] * (len(rows) + 1)])
    cost = [-(bids[at] or 0) for at in rows] + [asks[at] or 0 for at in rows] + [discount]
    bounds = [(0, None)] * (2 * len(rows)) + [(None, None)]
    best = linprog(
        cost,
        np.vstack([-worth, -slope, one]),
        [0.0] * (len(grid) + 1) + [1.0],
        bounds=bounds,
    )
    told = check_chain(calls((strikes, bids, asks)), discount)
    most = told.listed[0].amount if told.listed else 0.0
    assert most == pytest.approx(-best.fun, abs=1e-4)


def paid(quotes: ChainQuotes, finding: Finding, discount: float, price: float) -> tuple[float, float]:
    """What a finding's portfolio brings now and what it is worth at expiry at a price."""
    at = {strike: index for index, strike in enumerate(quotes.strikes)}
    sold_at = quotes.call_bids if finding.option == "call" else quotes.put_bids
    bought_at = quotes.call_asks if finding.option == "call" else quotes.put_asks
    sign = 1 if finding.option == "call" else -1

    def worth(strike: float) -> float:
        return max(sign * (price - strike), 0.0)

    if finding.kind == "parity":
        sold, bought = finding.strikes
        assert sold is not None
        assert bought is not None
        now = (quotes.call_bids[at[sold]] or 0) - (quotes.put_asks[at[sold]] or 0)
        now -= (quotes.call_asks[at[bought]] or 0) - (quotes.put_bids[at[bought]] or 0)
        # C - P pays S - K: what the strikes differ by is lent or borrowed.
        return now + discount * (sold - bought), (sold - price) + (price - bought) - (sold - bought)
    strikes = [strike for strike in finding.strikes if strike is not None]
    if finding.kind == "butterfly":
        low, body, high = strikes
        share = (high - body) / (high - low)
        wings = share * (bought_at[at[low]] or 0) + (1 - share) * (bought_at[at[high]] or 0)
        after = share * worth(low) + (1 - share) * worth(high) - worth(body)
        return (sold_at[at[body]] or 0) - wings, after
    low, high = strikes
    dear, cheap = (low, high) if finding.option == "call" else (high, low)
    sold, bought = (cheap, dear) if finding.kind == "vertical_below_zero" else (dear, cheap)
    lent = high - low if finding.kind == "vertical_above_width" else 0.0
    now = (sold_at[at[sold]] or 0) - (bought_at[at[bought]] or 0) - discount * lent
    return now, worth(bought) - worth(sold) + lent


both = st.lists(
    st.tuples(st.integers(60, 140), quoted, quoted), min_size=2, max_size=6, unique_by=lambda q: q[0]
).map(sorted)


@given(both, discounts)
def test_every_finding_brings_its_amount_now_and_never_costs_anything_later(
    found: list[tuple[int, tuple[float, float], tuple[float, float]]], discount: float
) -> None:
    quotes = ChainQuotes(
        [float(strike) for strike, _, _ in found],
        [call[0] for _, call, _ in found],
        [call[1] for _, call, _ in found],
        [put[0] for _, _, put in found],
        [put[1] for _, _, put in found],
    )
    told = check_chain(quotes, discount, cap=EVERY)
    assert told.count == len(told.listed)
    for finding in told.listed:
        assert finding.amount > 0
        for price in (0.0, *quotes.strikes, 1000.0):
            now, later = paid(quotes, finding, discount, price)
            assert now == pytest.approx(finding.amount)
            assert later >= -1e-9


@given(both)
def test_forwards_of_all_pairs_of_strikes_are_compared(
    found: list[tuple[int, tuple[float, float], tuple[float, float]]],
) -> None:
    quotes = ChainQuotes(
        [float(strike) for strike, _, _ in found],
        [call[0] for _, call, _ in found],
        [call[1] for _, call, _ in found],
        [put[0] for _, _, put in found],
        [put[1] for _, _, put in found],
    )
    dearest: list[float] = []
    for strike, call, put in found:
        others = [k + c[1] - p[0] for k, c, p in found if k != strike]
        dearest.append(strike + call[0] - put[1] - min(others))
    expected = sorted((amount for amount in dearest if amount > 1e-6), reverse=True)
    assert amounts(check_chain(quotes, 1.0, cap=EVERY), "parity") == pytest.approx(expected)


@pytest.mark.parametrize("bad", [None, 0.0, -1.0, float("nan"), inf])
def test_a_price_nobody_stands_by_is_not_traded_on(bad: float | None) -> None:
    bids: Column = [None, None, None, bad, None]
    asks: Column = [None, 5.5, None, 90.0, None]
    assert check_chain(ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING), 1.0).count == 0
    bids, asks = [None, None, None, 6.0, None], [None, bad, None, None, None]
    assert check_chain(ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING), 1.0).count == 0


def test_a_crossed_quote_is_not_traded_on() -> None:
    bids: Column = [None, None, None, 9.0, None]
    asks: Column = [None, 5.5, None, 8.0, None]
    assert check_chain(ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING), 1.0).count == 0


def test_the_largest_come_first_and_those_cut_off_are_counted() -> None:
    bids: Column = [None, 7.0, 8.0, 6.0, 9.0]
    asks: Column = [5.0, None, None, None, None]
    quotes = ChainQuotes(STRIKES, bids, asks, NOTHING, NOTHING)
    told = check_chain(quotes, 1.0, cap=2)
    assert [finding.amount for finding in told.listed] == [4, 3]
    assert told.count == 4
    assert check_chain(quotes, 1.0, least=2.5).count == 2


def test_findings_of_several_checks_are_ordered_together() -> None:
    one, other = Finding("parity", None, (1, 2), 1.0), Finding("butterfly", "call", (1, 2, 3), 2.0)
    assert largest([one, other], cap=1) == Findings((other,), 2)


def test_a_chain_without_strikes_contradicts_nothing() -> None:
    empty = ChainQuotes([], [], [], [], [])
    assert check_chain(empty, 1.0) == Findings((), 0)
    assert calendar(offers(empty), 100, 1, offers(empty), 100, 1) == Findings((), 0)


@given(st.floats(0.02, 0.5), st.floats(0, 0.5), st.floats(90, 120), discounts)
def test_variance_that_grows_with_time_leaves_no_calendar_to_trade(
    near: float, more: float, far_forward: float, discount: float
) -> None:
    sold, bought = offers(fair(100, near, discount)), offers(fair(far_forward, near + more, 0.9))
    told = calendar(sold, 100, discount, bought, far_forward, 0.9)
    assert told == Findings((), 0)


def test_an_option_that_asks_less_with_more_time_to_go_is_bought_at_the_same_moneyness() -> None:
    near, far = fair(100, 0.2, 0.99, [100.0]), fair(110, 0.1, 0.95, [110.0])
    told = calendar(offers(near), 100, 0.99, offers(far), 110, 0.95)
    scale = 100 * 0.99 / (110 * 0.95)
    expected = (near.call_bids[0] or 0) - scale * (far.call_asks[0] or 0)
    assert told.count == 2
    assert {finding.option for finding in told.listed} == {"call", "put"}
    for finding in told.listed:
        assert (finding.kind, finding.strikes) == ("calendar", (100, 110))
        assert finding.amount == pytest.approx(expected)


@given(markets, markets, st.sampled_from([1.0, 1.1]), st.sampled_from([1.0, 0.95]))
def test_no_far_pair_around_the_strike_is_cheaper_than_what_a_calendar_buys(
    near_found: list[tuple[int, tuple[float, float] | None]],
    far_found: list[tuple[int, tuple[float, float] | None]],
    grown: float,
    far_discount: float,
) -> None:
    near, far = market(near_found), market(far_found)
    sold, bought = offers(calls(near)), offers(calls(far))
    told = calendar(sold, 100, 1.0, bought, 100 * grown, far_discount, cap=EVERY)
    scale = 1 / (far_discount * grown)
    offered = [(k, ask) for k, ask in zip(far[0], far[2], strict=True) if ask is not None]
    expected = []
    for strike, bid in zip(near[0], near[1], strict=True):
        target = strike * grown
        costs = [ask for k, ask in offered if isclose(k, target)]
        for (low, low_ask), (high, high_ask) in combinations(offered, 2):
            if low < target < high:
                share = (high - target) / (high - low)
                costs.append(share * low_ask + (1 - share) * high_ask)
        if bid is not None and costs and bid - scale * min(costs) > 1e-6:
            expected.append(bid - scale * min(costs))
    assert [finding.amount for finding in told.listed] == pytest.approx(sorted(expected, reverse=True))


def test_what_can_be_sold_at_the_near_expiry_is_covered_at_the_far_one_whatever_happens() -> None:
    grown, near_discount, far_discount = 1.1, 0.99, 0.95
    scale = near_discount / (far_discount * grown)
    between = far_discount / near_discount
    for spot in (50.0, 99.0, 100.0, 101.0, 200.0):
        for total in (0.01, 0.3):
            bought = scale * black(1, spot * grown, 100 * grown, total, between)
            assert bought >= max(spot - 100, 0) - 1e-9
