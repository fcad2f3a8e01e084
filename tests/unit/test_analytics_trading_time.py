"""Time to expiry by sessions, weekends and holidays."""

from __future__ import annotations

from math import sqrt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics import analyse
from enricher.analytics.contracts import Contract, years
from enricher.analytics.trading_time import trading_time
from enricher.clock import MINUTE, event_us
from enricher.market.products import Contracts

DAY = 1440 * MINUTE
NIFTY = Contracts().of("NIFTY")
FRIDAY, THURSDAY = "2025-10-17T15:30:00+05:30", "2025-10-23T15:30:00+05:30"


def between(contract: Contract, start: str, end: str) -> float:
    """Trading time in years."""
    return trading_time(contract, event_us(start)[0], event_us(end)[0]).years


def changed(**terms: object) -> Contract:
    return msgspec.structs.replace(NIFTY, **terms)


@pytest.mark.parametrize(
    ("contract", "start", "end", "days", "in_year"),
    [
        (NIFTY, FRIDAY, THURSDAY, 4, 252),
        (NIFTY, "2025-10-17T12:22:30+05:30", THURSDAY, 4.5, 252),
        (NIFTY, "2025-10-18T03:00:00+05:30", THURSDAY, 4, 252),
        (changed(holidays=("2025-10-21", "2025-10-22", "2025-10-25")), FRIDAY, THURSDAY, 2, 252),
        (changed(closed_weight=0.25), FRIDAY, THURSDAY, 4.5, 252 + 0.25 * 113),
        (changed(closed_weight=1.0), FRIDAY, THURSDAY, 6, 365),
        (changed(session_open=None, session_close=None), FRIDAY, THURSDAY, 4 + 8.5 / 24 - 8.5 / 24, 252),
        (NIFTY, "2025-10-17T15:30:00+05:30", "2026-10-16T15:30:00+05:30", 260, 252),
    ],
)
def test_days_of_trading_count(contract: Contract, start: str, end: str, days: float, in_year: float) -> None:
    assert between(contract, start, end) == pytest.approx(days / in_year, rel=1e-12)


@given(st.integers(0, 4000), st.integers(MINUTE, 800 * DAY))
def test_a_market_that_never_closes_has_the_time_of_the_calendar(day: int, span: int) -> None:
    start = event_us("2020-01-01T00:00:00+00:00")[0] + day * DAY + 12_345_678
    found = trading_time(Contracts().of("BTC"), start, start + span)
    assert found.years == pytest.approx(years(start + span, start), rel=1e-6)
    assert found.factor == pytest.approx(1.0, rel=1e-6)


moments = st.integers(event_us("2025-01-01T00:00:00+00:00")[0], event_us("2027-01-01T00:00:00+00:00")[0])


@given(moments, moments, moments, st.sampled_from([0.0, 0.3]))
def test_time_adds_up_and_never_runs_backwards(one: int, two: int, three: int, weight: float) -> None:
    first, second, third = sorted((one, two, three))
    contract = changed(holidays=("2025-08-15", "2026-01-26"), closed_weight=weight)
    spans = ((first, second), (second, third), (first, third))
    parts = [trading_time(contract, a, b).years for a, b in spans]
    assert min(parts) >= 0
    assert parts[0] + parts[1] == pytest.approx(parts[2], rel=1e-9, abs=1e-12)


def test_total_variance_is_the_same_in_both_times() -> None:
    start, end = event_us(FRIDAY)[0], event_us(THURSDAY)[0]
    found = trading_time(NIFTY, start, end)
    assert found.factor == pytest.approx(sqrt(6 / 365 / (4 / 252)))


def test_a_market_that_stays_closed_until_expiry_has_no_trading_time() -> None:
    spx = Contracts().of("SPX")
    evening, morning = event_us("2025-06-19T20:00:00-04:00")[0], spx.expiry_us("2025-06-20")
    found = trading_time(spx, evening, morning)
    assert (found.years, found.factor, found.reason) == (0.0, None, "no_trading_time")
    assert trading_time(spx, morning, morning).reason == "expired"


def test_an_analysis_has_it_when_it_is_asked_for_it() -> None:
    legs = [
        {"strike": strike, "kind": kind, "bid": bid, "ask": bid + 0.1}
        for kind, bids in (("call", (620, 250, 60)), ("put", (50, 180, 480)))
        for strike, bid in zip((24600, 25100, 25600), bids, strict=True)
    ]
    terms: dict[str, Any] = {"spot": 25_110.0, "expiry": "2025-10-23", "at": FRIDAY}
    found = analyse(legs, contract=NIFTY, **terms, extras=["trading_time", "india_vix"])
    assert found.trading_time == trading_time(NIFTY, event_us(FRIDAY)[0], event_us(THURSDAY)[0])
    assert found.india_vix is not None
    assert found.india_vix.reason == "no_future"
