"""Open interest by strike that is kept says the same as open interest that is added anew."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.quote_arbitrage import ChainQuotes
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.strike_interest import StrikeInterest
from tests.unit.test_market_cross_expiry import YEARS, last_chain

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
