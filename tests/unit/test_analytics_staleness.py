"""Which prices of a chain still count."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.analytics import black76
from enricher.analytics.chain_numbers import chain_numbers
from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.contracts import years
from enricher.analytics.price_analysis import PriceAnalysis, analyse_prices
from enricher.analytics.staleness import NO_AGES, Fresh, fresh, leg_ages, reader
from enricher.clock import SECOND, event_us, render
from enricher.market.products import Contracts
from enricher.market.serialisation import analysis_fields
from enricher.messages.models import Chain
from tests.chains import made_chain

NIFTY, EXPIRY, FORWARD = Contracts().of("NIFTY"), "2025-06-26", 21550.0
TEXT = "2025-06-16T10:00:00+05:30"
AT = event_us(TEXT)[0]
INDIA = ZoneInfo("Asia/Kolkata")


def ago(seconds: float) -> str:
    """A time this long before the chain's, in UTC."""
    return render(AT - int(seconds * SECOND), naive=False)


def sent(*calls: dict[str, Any], text: str = TEXT, puts: tuple[dict[str, Any], ...] = ()) -> Chain:
    return made_chain("NIFTY", EXPIRY, 21500, text, calls, puts)


def seen(chain: Chain, max_age: float = 300.0, zone: str = "UTC") -> Fresh:
    return fresh(columns(chain), leg_ages(chain, reader(ZoneInfo(zone))), max_age)


def left(max_age: float = 300.0, zone: str = "UTC", text: str = TEXT, **leg: Any) -> list[float | None]:
    """Bid, ask and last of one call, as far as they count."""
    side = seen(sent({"strike": 21500, "bid": 10, "ask": 11, "last": 9, **leg}, text=text), max_age, zone)
    return [side.calls.bid[0], side.calls.ask[0], side.calls.last[0]]


EVERYTHING, NOTHING, QUOTE, TRADE = [10, 11, 9], [None, None, None], [10, 11, None], [None, None, 9]


@pytest.mark.parametrize(
    ("leg", "expected"),
    [
        ({}, EVERYTHING),
        ({"timestamp": ago(300)}, EVERYTHING),
        ({"timestamp": ago(300.000001)}, NOTHING),
        ({"timestamp": ago(301), "last_trade_time": ago(5)}, TRADE),
        ({"timestamp": ago(5), "last_trade_time": ago(301)}, QUOTE),
        ({"last_trade_time": ago(301)}, QUOTE),
        ({"last_trade_time": ago(299)}, EVERYTHING),
        ({"timestamp": None, "last_trade_time": None}, EVERYTHING),
        ({"last_trade_time": str(AT // 1000 - 301_000)}, QUOTE),
        ({"last_trade_time": str(AT // SECOND - 299)}, EVERYTHING),
    ],
)
def test_a_quote_and_a_trade_count_for_five_minutes_each(
    leg: dict[str, Any], expected: list[float | None]
) -> None:
    assert left(**leg) == expected


def test_how_old_is_too_old_is_a_setting() -> None:
    assert left(10.0, timestamp=ago(20)) == NOTHING
    assert left(30.0, timestamp=ago(20)) == EVERYTHING


@pytest.mark.parametrize("unreadable", ["never", "", "2025-06-16", "0001-01-01T00:00:00", 1750000000, True])
def test_a_time_that_is_no_moment_is_no_time(unreadable: object) -> None:
    assert left(timestamp=unreadable) == EVERYTHING
    assert left(last_trade_time=unreadable) == EVERYTHING
    assert left(timestamp=ago(301), last_trade_time=unreadable) == NOTHING
    assert left(timestamp=unreadable, last_trade_time=ago(301)) == QUOTE


def test_a_leg_that_is_later_than_its_chain_is_as_old_as_the_chain() -> None:
    """The clock was set back between them, or the chain took its time at the start of a sweep."""
    assert left(timestamp=ago(-1)) == EVERYTHING
    assert left(timestamp=ago(-3600), last_trade_time=ago(-3600)) == EVERYTHING
    assert left(timestamp=ago(-3600), last_trade_time=ago(301)) == QUOTE


def test_times_with_and_without_an_offset_are_the_same_clock() -> None:
    local = render(AT - 20 * SECOND, True, INDIA)
    assert left(zone="Asia/Kolkata", timestamp=local) == EVERYTHING
    assert left(10.0, zone="Asia/Kolkata", timestamp=local) == NOTHING
    # A naive chain with legs that name their offset, and the other way round.
    naive = render(AT, True)
    assert left(text=naive, timestamp=ago(301)) == NOTHING
    assert left(text=naive, timestamp=ago(299)) == EVERYTHING
    assert left(timestamp=render(AT - 301 * SECOND, True)) == NOTHING
    assert left(timestamp=render(AT - 299 * SECOND, True)) == EVERYTHING


def test_a_last_price_without_any_volume_was_not_traded_today() -> None:
    assert left(volume=0) == left(volume=0.0) == QUOTE
    assert left(volume=0, bid=None, ask=None) == NOTHING
    assert left(volume=0, bid=0) == [0, 11, None]
    assert left(volume=1, bid=None, ask=None) == TRADE
    assert left(volume=None, bid=None, ask=None) == TRADE
    # The time of the quote says nothing of the trade; its own time does.
    assert left(volume=0, timestamp=ago(1)) == QUOTE
    assert left(volume=0, last_trade_time=ago(1)) == EVERYTHING
    assert left(volume=0, last_trade_time=ago(301)) == left(volume=0, last_trade_time="never") == QUOTE


def test_where_a_price_was_taken_out_is_said_and_nowhere_else() -> None:
    old, unpriced = {"timestamp": ago(301)}, {"bid": 0, "ask": None, "last": 0}
    chain = sent(
        {"strike": 1, "bid": 1, **old},
        {"strike": 2, "last": 1, **old},
        {"strike": 3, **unpriced, **old},
        {"strike": 4, "bid": 1, "last": 1},
        {"strike": 5, "last": 1, "volume": 0},
        {"strike": 6, "last": 0, "volume": 0},
    )
    calls = seen(chain).calls
    assert (calls.stale_quotes, calls.stale_trades) == ({0}, {1, 4})
    assert seen(chain).puts == columns(chain).puts


def test_a_chain_without_times_and_with_every_option_traded_is_taken_as_it_is() -> None:
    chain = sent({"strike": 1, "bid": 1, "volume": 2}, {"strike": 2, "last": 1, "timestamp": TEXT})
    cells = columns(chain)
    assert leg_ages(chain, reader(ZoneInfo("UTC"))) is NO_AGES
    assert fresh(cells, NO_AGES, 300.0).calls is cells.calls


def test_open_interest_and_volume_do_not_age() -> None:
    known = {"open_interest": 5, "volume": 7, "iv": 0.2}
    side = seen(sent({"strike": 1, "bid": 1, "timestamp": ago(1e6), **known})).calls
    assert (side.oi, side.volume, side.iv, side.bid) == ([5], [7], [0.2], [None])


def fair_chain(stale: dict[int, dict[str, Any]]) -> Chain:
    """Quotes that contradict nothing, but for what ``stale`` says of single calls."""
    t = years(NIFTY.expiry_us(EXPIRY), AT)
    sides: list[list[dict[str, Any]]] = [[], []]
    for strike in range(20000, 23501, 250):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = black76.price(kind, FORWARD, strike, t, 0.15, 1 - NIFTY.rate * t)
            legs.append({"strike": strike, "bid": max(value - 1, 0.05), "ask": value + 1})
    calls = [{**leg, **stale.get(leg["strike"], {})} for leg in sides[0]]
    return sent(*calls, puts=tuple(sides[1]))


def analysed(chain: Chain) -> PriceAnalysis:
    return analyse_prices(chain, chain_prices(chain, seen(chain), NIFTY), NIFTY)


def test_no_analytic_sees_a_stale_quote() -> None:
    """A quote far off the market contradicts all others, until it is known to be of another time."""
    mad = {"bid": 2000, "ask": 2010}
    trusted, believed = analysed(fair_chain({})), analysed(fair_chain({22000: mad}))
    missing = analysed(fair_chain({22000: {"bid": None, "ask": None}}))
    stale = analysed(fair_chain({22000: {**mad, "timestamp": ago(301)}}))
    assert trusted.arbitrage.count == 0 < believed.arbitrage.count
    assert believed.variance_swap.contributions != trusted.variance_swap.contributions
    assert stale.arbitrage.count == 0
    assert stale.variance_swap == missing.variance_swap
    assert stale.quotes == missing.quotes
    assert stale.forward == missing.forward
    assert stale.smile.strikes == missing.smile.strikes
    assert stale.calls.price == missing.calls.price


def test_what_is_published_names_the_strikes_whose_quotes_are_stale() -> None:
    chain = fair_chain(
        {22000: {"timestamp": ago(301)}, 22250: {"timestamp": ago(301), "last": 5, "last_trade_time": ago(1)}}
    )
    fields = analysis_fields(analysed(chain), chain.strikes, NIFTY, EXPIRY, 300)
    reasons = fields["analytics"]["reasons"]["calls"]
    assert reasons["stale_quote"] == [22000, 22250]
    assert reasons["stale"] == [22000]
    assert reasons["last_price"] == [22250]
    assert "stale_quote" not in fields["analytics"]["reasons"]["puts"]


def test_the_straddle_by_mid_is_not_of_a_stale_quote() -> None:
    fine, stale = fair_chain({}), fair_chain({21500: {"timestamp": ago(301)}})
    assert chain_numbers(fine, seen(fine)).atm_straddle_mid is not None
    found = chain_numbers(stale, seen(stale))
    assert found.atm_straddle_mid is None
    assert found.flags["atm_straddle_mid"] == "stale quote of call or put at the money"
