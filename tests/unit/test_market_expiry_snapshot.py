"""What is remembered of the expiries of a product, and how it ages while no new chain comes."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.analytics import black76, variance
from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.contracts import YEAR_US
from enricher.analytics.position_buildup import snapshot
from enricher.analytics.price_analysis import analyse_prices
from enricher.analytics.staleness import fresh, leg_ages, reader
from enricher.analytics.steps import at_once
from enricher.clock import SECOND, event_us, render
from enricher.market.chain_enrichment import enriching
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.state.read_back import chain_of
from enricher.market.surface.cross_expiry import CrossExpiry
from enricher.market.surface.expiry_snapshot import ExpirySnapshot, expiry_snapshot
from enricher.market.surface.snapshot_at import at_money, snapshot_at, together
from enricher.messages.models import Chain
from tests.chains import made_chain
from tests.unit.test_market_state import fold_chain

NIFTY, SPOT = Contracts().of("NIFTY"), 21500.0
NEAR, FAR = "2025-06-26", "2025-07-31"
AT = event_us("2025-06-16T10:00:00+05:30")[0]
INDIA = ZoneInfo("Asia/Kolkata")
SETTINGS = MarketSettings()


def later(seconds: float) -> int:
    return AT + int(seconds * SECOND)


def sent(
    expiry: str, at_us: int = AT, iv: float = 0.15, calls: dict[int, dict[str, Any]] | None = None
) -> Chain:
    """A chain of one volatility whose forward is spot; ``calls`` says otherwise of single legs."""
    t = (NIFTY.expiry_us(expiry) - at_us) / YEAR_US
    discount = 1 - NIFTY.rate * t
    sides: list[list[dict[str, Any]]] = [[], []]
    for strike in range(19500, 23501, 250):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = black76.price(kind, SPOT, strike, t, iv, discount)
            legs.append({"strike": strike, "bid": value - 0.1, "ask": value + 0.1, "open_interest": 10})
    changed = [{**leg, **(calls or {}).get(leg["strike"], {})} for leg in sides[0]]
    return made_chain("NIFTY", expiry, SPOT, render(at_us, False), changed, sides[1])


def state() -> ProductState:
    return ProductState(
        "NIFTY", MarketSettings(windows=(1,), lateness=0.0, quote_window=600.0, buildup_min_age=0.0), NIFTY
    )


def fields_and_known(chain: Chain, zone: ZoneInfo = INDIA) -> tuple[dict[str, Any], ExpirySnapshot]:
    fields, known = at_once(enriching(state(), chain, snapshot(chain), SETTINGS, zone))
    assert known is not None
    return fields, known


def known_of(*args: Any, **named: Any) -> ExpirySnapshot:
    return fields_and_known(sent(*args, **named))[1]


DEAR = {22000: {"bid": 1500, "ask": 1510, "timestamp": render(later(-200), False)}}
"""A bid of the nearer expiry that any farther option would cover, 200 s old when its chain came."""


@pytest.mark.parametrize(("seconds", "count"), [(0, 1), (100, 1), (100.000001, 0), (250, 0)])
def test_a_quote_that_grows_stale_between_chains_is_no_longer_traded_on(seconds: float, count: int) -> None:
    across, known = CrossExpiry(), [known_of(NEAR, calls=DEAR), known_of(FAR)]
    assert across.fields(known, {}, AT)["calendar"]["executable_count"] == 1
    found = across.fields(known, {}, later(seconds))["calendar"]
    assert found["executable_count"] == len(found["executable"]) == count


def test_a_clock_that_goes_back_brings_back_what_counted_then() -> None:
    across, known = CrossExpiry(), [known_of(NEAR, calls=DEAR), known_of(FAR)]
    counts = [
        across.fields(known, {}, later(seconds))["calendar"]["executable_count"]
        for seconds in (150, 50, -60, 150)
    ]
    assert counts == [0, 1, 1, 0]


def test_a_node_of_the_smile_goes_with_the_price_that_it_rests_on() -> None:
    quoted = {"timestamp": render(later(-200), False)}
    traded = {"bid": None, "ask": None, "last": 30.0, "last_trade_time": render(later(-250), False)}
    known = known_of(NEAR, calls={22000: quoted, 22250: traded})
    assert {22000, 22250} <= set(snapshot_at(known, AT).smile.strikes)
    at_60, at_120 = (set(snapshot_at(known, later(s)).smile.strikes) for s in (60, 120))
    assert set(known.smile.strikes) - at_60 == {22250}
    assert set(known.smile.strikes) - at_120 == {22000, 22250}
    # The put is not what the node rests on above the forward.
    assert snapshot_at(known, later(60)).quotes.put_bids == known.quotes.put_bids


@pytest.mark.parametrize(("seconds", "left_out"), [(300, {}), (300.000001, {NEAR: "stale"})])
def test_an_expiry_whose_last_chain_is_too_old_is_left_out(
    seconds: float, left_out: dict[str, str]
) -> None:
    known = [known_of(NEAR, iv=0.6), known_of(FAR, later(seconds))]
    found = CrossExpiry().fields(known, {})
    assert found["term"]["left_out"] == left_out
    assert len(found["term"]["years"]) == 2 - len(left_out)
    assert (found["calendar"]["violation_count"] > 0) == (not left_out)
    assert [row["expiry"] for row in found["smiles"]] == [NEAR, FAR]


def test_thirty_days_are_not_bracketed_by_a_chain_that_is_too_old() -> None:
    known = [known_of(NEAR), known_of(FAR)]
    moments = (later(0), later(301))
    now, stale = (together([snapshot_at(one, us) for one in known], known, us) for us in moments)
    assert now["iv_30d"] == pytest.approx(0.15, abs=1e-3)
    assert now["variance_swap_30d"]["volatility"] is not None
    assert (stale["iv_30d"], stale["iv_30d_reason"]) == (None, "not_bracketed")
    assert stale["variance_swap_30d"]["volatility"] is None
    assert stale["variance_swap_30d"]["reason"] == "not_bracketed"
    assert stale["pcr_oi"] == now["pcr_oi"] == 1.0


def test_the_volatility_at_the_money_of_a_day_is_not_of_a_stale_chain() -> None:
    lane = state()
    for chain in (sent(NEAR, AT, 0.3), sent(FAR, later(301), 0.15)):
        fields, known = at_once(enriching(lane, chain, snapshot(chain), SETTINGS, INDIA))
        fold_chain(lane, chain, "", snapshot(chain), known)
    assert fields["standing"]["atm_iv"]["expiry"] == FAR
    assert fields["standing"]["atm_iv"]["value"] == pytest.approx(0.15, abs=1e-3)


def test_a_strip_is_measured_anew_without_the_quotes_that_have_grown_stale() -> None:
    old = {22250: {"timestamp": render(later(-200), False)}}
    chain = sent(NEAR, calls=old)
    known = fields_and_known(chain)[1]
    gone = fields_and_known(sent(NEAR, calls={22250: {"bid": None, "ask": None}}))[0]["variance_swap"]
    assert snapshot_at(known, later(100)).strip == known.strip
    left = snapshot_at(known, later(101)).strip
    assert left.variance == pytest.approx(gone["variance"], rel=1e-6)
    assert left.variance != pytest.approx(known.strip.variance, rel=1e-6)
    assert snapshot_at(known, later(301)).strip == variance.Strip(known.strip.years, reason="stale")


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_what_is_read_back_is_what_was_remembered(zone: str) -> None:
    """Times without an offset are read in the zone that they were read in before."""
    naive = render(later(-200), True, ZoneInfo(zone))
    legs: dict[int, dict[str, Any]] = {
        22000: {"timestamp": naive},
        22250: {"bid": None, "ask": None, "last": 30.0, "last_trade_time": naive},
        22500: {"timestamp": render(later(-301), False)},
    }
    chain = sent(NEAR, calls=legs)
    fields, known = fields_and_known(chain, ZoneInfo(zone))
    stored = json.loads(json.dumps({**fields, "event_us": chain.event_us, "_id": "1"}))
    read = chain_of(stored)
    assert read is not None
    again = expiry_snapshot(read[0], stored, NIFTY)
    assert again == known
    assert known.moments is not None
    assert known.moments.calls[known.quotes.strikes.index(22000)] == later(-200)


def test_time_to_expiry_is_counted_from_one_moment_for_all() -> None:
    """On the last day the minutes between two chains are much of the time that is left."""
    end = NIFTY.expiry_us(NEAR)
    early, now = end - 20 * 60 * SECOND, end - 16 * 60 * SECOND
    rows = [snapshot_at(known_of(NEAR, early), now), snapshot_at(known_of(FAR, now), now)]
    years, ws = at_money(rows, now)
    assert years == pytest.approx([(end - now) / YEAR_US, (NIFTY.expiry_us(FAR) - now) / YEAR_US], rel=1e-9)
    assert [w / t for w, t in zip(ws, years, strict=True)] == pytest.approx([0.15**2] * 2, rel=0.02)


def test_what_has_expired_since_its_chain_is_left_out() -> None:
    end = NIFTY.expiry_us(NEAR)
    known = [known_of(NEAR, end - 120 * SECOND), known_of(FAR, end + SECOND)]
    found = CrossExpiry().fields(known, {})
    assert found["term"]["left_out"] == {NEAR: "expired"}
    assert found["calendar"]["violation_count"] == found["calendar"]["executable_count"] == 0


def test_all_that_can_be_traded_on_is_counted_though_only_the_largest_are_named() -> None:
    found = CrossExpiry().fields([known_of(NEAR, iv=0.6), known_of(FAR, later(7))], {})["calendar"]
    assert len(found["executable"]) == 10 < found["executable_count"]
    assert {row["apart"] for row in found["executable"]} == {7.0}


def test_a_wide_quote_between_two_expiries_hides_no_profit() -> None:
    middle = "2025-07-03"
    wide = {strike: {"bid": 0.05, "ask": 50_000} for strike in range(21750, 23501, 250)}
    known = [known_of(NEAR, calls=DEAR), known_of(middle, calls=wide), known_of(FAR)]
    (row,) = CrossExpiry().fields(known, {})["calendar"]["executable"]
    assert (row["near"], row["far"], row["option"]) == (NEAR, FAR, "call")
    assert row["strikes"][0] == 22000


def test_a_calendar_of_less_than_a_tick_is_none() -> None:
    def count(bid: float) -> int:
        near = known_of(NEAR, calls={23500: {"bid": bid, "ask": 400}})
        far = known_of(FAR)
        return int(CrossExpiry().fields([near, far], {})["calendar"]["executable_count"])

    far = known_of(FAR)
    ask = far.quotes.call_asks[-1]
    assert ask is not None
    near = known_of(NEAR)
    assert near.forward is not None
    assert far.forward is not None
    # Between listed strikes the two around cost more, so that the forwards are to be the same.
    assert near.forward == pytest.approx(far.forward, rel=1e-9)
    worth = ask * near.discount / far.discount
    assert (count(worth + 0.04), count(worth + 0.06)) == (0, 1)


def test_what_a_chain_is_judged_by_is_what_is_remembered_of_it() -> None:
    chain = sent(NEAR, calls={22000: {"bid": 1, "ask": 2, "timestamp": render(later(-301), False)}})
    cells = fresh(columns(chain), leg_ages(chain, reader(INDIA)), 300)
    found = analyse_prices(chain, chain_prices(chain, cells, NIFTY), NIFTY)
    assert fields_and_known(chain)[1].quotes == found.quotes
