"""What the expiries of a product say of each other, and how long that holds."""

from __future__ import annotations

from math import log
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics import term_structure as term
from enricher.analytics.black76 import price
from enricher.analytics.quote_arbitrage import ChainQuotes
from enricher.analytics.variance import Strip
from enricher.analytics.volatility_smile import Smile
from enricher.market.surface.cross_expiry import CrossExpiry
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.strike_interest import StrikeInterest

STRIKES = [70.0 + 5 * at for at in range(13)]
FORWARD = 100.0
EXPIRIES = ["2025-10-30", "2025-11-27", "2025-12-24", "2026-01-29"]
YEARS = {expiry: 0.1 * (at + 1) for at, expiry in enumerate(EXPIRIES)}


def last_chain(expiry: str, iv: float, smiling: bool = True, quoted: bool = True) -> ExpirySnapshot:
    """The last chain of an expiry with one volatility at all strikes, quoted without a spread."""
    years = YEARS[expiry]
    ks = [log(strike / FORWARD) for strike in STRIKES]
    prices = [[price(side, FORWARD, strike, years, iv, 1.0) for strike in STRIKES] for side in (1, -1)]
    calls, puts = prices if quoted else [[None] * len(STRIKES)] * 2
    n = len(STRIKES)
    nodes = (STRIKES, ks, [iv * iv * years] * n, [iv] * n) if smiling else ([], [], [], [])
    return ExpirySnapshot(
        expiry=expiry,
        event_us=1,
        totals=(None, None, None, None),
        forward=FORWARD,
        discount=1.0,
        smile=Smile(FORWARD, years, *nodes, {}, None if smiling else "no_nodes"),
        strip=Strip(years),
        quotes=ChainQuotes(STRIKES, calls, calls, puts, puts),
        unit=None,
        row={"atm_iv": iv},
        measures={},
    )


def test_a_chain_that_replaces_one_of_the_same_time_is_compared_anew() -> None:
    across = CrossExpiry()
    near = last_chain(EXPIRIES[0], 0.2)
    rising, falling = (last_chain(EXPIRIES[1], iv) for iv in (0.2, 0.1))
    assert across.fields([near, rising], {})["calendar"]["violation_count"] == 0
    assert across.fields([near, falling], {})["calendar"]["violation_count"] > 0


steps = st.lists(
    st.tuples(
        st.sampled_from(EXPIRIES),
        st.sampled_from([0.1, 0.2, 0.3]),
        *[st.booleans()] * 3,
    ),
    max_size=12,
)


@given(steps)
def test_what_is_kept_of_neighbours_changes_no_number(
    arrivals: list[tuple[str, float, bool, bool, bool]],
) -> None:
    """Chains come, change and go, and after each the whole is what it is without any memory."""
    across, known = CrossExpiry(), dict[str, ExpirySnapshot]()
    for expiry, iv, smiling, quoted, gone in arrivals:
        known[expiry] = last_chain(expiry, iv, smiling, quoted)
        if gone:
            known.pop(min(known))
        ordered = [known[expiry] for expiry in sorted(known)]
        assert across.fields(ordered, {}) == CrossExpiry().fields(ordered, {})


def test_no_neighbours_are_remembered_that_are_gone() -> None:
    across = CrossExpiry()
    across.fields([last_chain(expiry, 0.2) for expiry in EXPIRIES], {})
    across.fields([last_chain(EXPIRIES[0], 0.2)], {})
    assert across._smiling == across._quoted == {}


def test_an_expiry_without_a_smile_or_quotes_does_not_stand_between_two_that_have_them() -> None:
    near, far = last_chain(EXPIRIES[0], 0.3), last_chain(EXPIRIES[2], 0.1)
    between = last_chain(EXPIRIES[1], 0.2, smiling=False, quoted=False)
    found = CrossExpiry().fields([near, between, far], {})["calendar"]
    assert found["violation_count"] == len(STRIKES)
    assert found["executable_count"] > 10
    for row in (*found["violations"], *found["executable"]):
        assert (row["near"], row["far"]) == (EXPIRIES[0], EXPIRIES[2])


def test_the_largest_are_shown_of_all_that_are_counted() -> None:
    chains = [last_chain(expiry, iv) for expiry, iv in zip(EXPIRIES, (0.4, 0.25, 0.15, 0.1), strict=True)]
    found = CrossExpiry().fields(chains, {})["calendar"]
    every = term.calendar_violations([one.smile for one in chains])
    assert found["violation_count"] == len(every) > 10
    amounts = [row["amount"] for row in found["violations"]]
    assert amounts == pytest.approx([one.amount for one in every[:10]], abs=1e-8)
    assert len(found["executable"]) == 10
    assert found["executable_count"] > 20
    paid = [row["amount"] for row in found["executable"]]
    assert paid == sorted(paid, reverse=True)


def test_what_can_be_traded_on_is_what_the_nearer_option_brings_over_the_farther() -> None:
    near, far = last_chain(EXPIRIES[0], 0.3), last_chain(EXPIRIES[1], 0.1)
    found = CrossExpiry().fields([near, far], {})["calendar"]["executable"]
    gains = [
        price(side, FORWARD, strike, 0.1, 0.3, 1.0) - price(side, FORWARD, strike, 0.2, 0.1, 1.0)
        for side in (1, -1)
        for strike in STRIKES
    ]
    best = sorted(gains, reverse=True)[:10]
    assert [row["amount"] for row in found] == pytest.approx(best, abs=1e-3)


def test_volatilities_that_do_not_fall_are_no_arbitrage() -> None:
    chains = [last_chain(expiry, 0.2) for expiry in EXPIRIES]
    calendar = CrossExpiry().fields(chains, {})["calendar"]
    assert (calendar["violation_count"], calendar["executable_count"]) == (0, 0)


def test_the_term_structure_is_that_of_the_smiles_there_are() -> None:
    chains = [last_chain(expiry, 0.2, smiling=expiry != EXPIRIES[1]) for expiry in EXPIRIES]
    found = CrossExpiry().fields(chains, {})["term"]
    assert found["years"] == pytest.approx([0.1, 0.3, 0.4])
    assert found["ivs"] == pytest.approx([0.2] * 3)
    assert [row["days"] for row in found["maturities"]] == list(term.DAYS)
    assert all((row["iv"] is None) == (row["reason"] is not None) for row in found["maturities"])
    assert [row["volatility"] for row in found["forwards"]] == pytest.approx([0.2, 0.2])


def test_a_row_carries_the_curve_that_was_fitted_if_there_is_one() -> None:
    chains = [last_chain(expiry, 0.2) for expiry in EXPIRIES[:2]]
    rows = CrossExpiry().fields(chains, {EXPIRIES[0]: {"a": 1.0}})["smiles"]
    assert [(row["expiry"], row["atm_iv"], row["svi"]) for row in rows] == [
        (EXPIRIES[0], 0.2, {"a": 1.0}), (EXPIRIES[1], 0.2, None)
    ]  # fmt: skip


@pytest.mark.parametrize("known", [[], [EXPIRIES[0]]])
def test_fewer_than_two_expiries_say_nothing_of_each_other(known: list[str]) -> None:
    found = CrossExpiry().fields([last_chain(expiry, 0.2) for expiry in known], {})
    assert found["calendar"]["violation_count"] == found["calendar"]["executable_count"] == 0
    assert found["term"]["forwards"] == []


def test_an_expiry_of_the_last_date_there_is_costs_its_neighbours_nothing() -> None:
    """What is due after eight thousand years has a discount of 0 to every digit that is shown."""
    near, last = last_chain(EXPIRIES[0], 0.2), last_chain(EXPIRIES[1], 0.2)
    found = CrossExpiry().fields([near, msgspec.structs.replace(last, discount=0.0)], {})
    assert found["calendar"]["executable_count"] == 0
    assert len(found["term"]["years"]) == 2


def test_what_cannot_be_compared_is_null_with_a_reason_and_smiles_stand_alone() -> None:
    across, one = CrossExpiry(), last_chain(EXPIRIES[0], 0.2)
    broken = msgspec.structs.replace(last_chain(EXPIRIES[1], 0.2), forward=5e-324, discount=5e-324)
    found = across.fields([one, broken], {})
    assert [row["expiry"] for row in found["smiles"]] == EXPIRIES[:2]
    assert (found["term"], found["calendar"]) == (None, None)
    assert found["flags"].keys() == {"term", "calendar"}
    assert across.fields([one], {})["calendar"] is not None


PLAIN = last_chain(next(iter(YEARS)), 0.15)
amounts = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([0.1, 0.2, 0.7, 2.0, 10**40]))
columns = st.dictionaries(st.integers(1, 5), st.tuples(amounts, amounts), min_size=1)
chains = st.tuples(st.sampled_from("ABCDE"), columns)


def remembered(expiry: str, by_strike: dict[int, tuple[Any, Any]]) -> ExpirySnapshot:
    calls, puts = map(list, zip(*by_strike.values(), strict=True))
    quotes = ChainQuotes(list(by_strike), [], [], [], [])
    return msgspec.structs.replace(PLAIN, expiry=expiry, quotes=quotes, oi=(calls, puts))


@given(st.lists(st.tuples(chains, st.sets(st.sampled_from("ABCDE"))), max_size=20))
def test_it_is_that_of_the_last_chain_of_each_expiry(turns: list[Any]) -> None:
    kept, known = StrikeInterest(), dict[str, ExpirySnapshot]()
    for (expiry, by_strike), gone in turns:
        known[expiry] = remembered(expiry, by_strike)
        rows = [one for name, one in sorted(known.items()) if name not in gone]
        found, anew = kept.of(rows), StrikeInterest().of(rows)
        for held, expected in zip(found, anew, strict=True):
            assert {k: v for k, v in held.items() if v} == {k: v for k, v in expected.items() if v}
