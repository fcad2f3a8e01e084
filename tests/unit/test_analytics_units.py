"""A chain in other units is the same chain: coins or currency, percent or decimals, contracts or units."""

from __future__ import annotations

from math import exp
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.analytics import ChainAnalysis, analyse, black76
from enricher.analytics.contracts import Contract, years
from enricher.clock import event_us

AT, EXPIRY, LOT = "2025-11-28T08:00:00+00:00", "2026-02-27", 25
COIN = Contract(
    name="BTC", expiry_time="08:00", rate=0.03, lot=LOT, tick_size=1e-6, price_unit="underlying",
    currency="USD",
)  # fmt: skip
CURRENCY = msgspec.structs.replace(COIN, price_unit="quote", tick_size=0.01)


class Market(msgspec.Struct, frozen=True):
    """A market with one volatility a strike: what every unit is to tell of it."""

    forward: float
    basis: float
    strikes: list[float]
    ivs: list[float]
    interest: list[int]

    def message(
        self, scale: float = 1.0, percent: bool = False, held: int = 1, **said: Any
    ) -> dict[str, Any]:
        t = years(CURRENCY.expiry_us(EXPIRY), event_us(AT)[0])
        sides: dict[int, list[dict[str, Any]]] = {1: [], -1: []}
        for kind, legs in sides.items():
            for strike, iv, oi in zip(self.strikes, self.ivs, self.interest, strict=True):
                value = black76.price(kind, self.forward, strike, t, iv, exp(-CURRENCY.rate * t))
                legs.append({
                    "strike": strike, "bid": value * 0.998 / scale, "ask": value * 1.002 / scale,
                    "last": value / scale, "open_interest": oi * held, "volume": oi,
                    "iv": iv * (100 if percent else 1),
                })  # fmt: skip
        message = {"product": "BTC", "expiry": EXPIRY, "timestamp": AT}
        message |= {"spot_price": self.forward / self.basis}
        return {**message, "calls": sides[1], "puts": sides[-1], **said}


@st.composite
def markets(draw: st.DrawFn) -> Market:
    forward = draw(st.floats(500, 150_000))
    count = draw(st.integers(5, 9))
    strikes = [forward * (0.8 + 0.4 * at / (count - 1)) for at in range(count)]
    ivs = draw(st.lists(st.floats(0.4, 0.8), min_size=count, max_size=count))
    interest = draw(st.lists(st.integers(1, 9_999), min_size=count, max_size=count))
    return Market(forward, draw(st.floats(0.95, 1.05)), strikes, ivs, interest)


def told(found: ChainAnalysis) -> dict[str, Any]:
    """What a chain says, whatever its numbers are in."""
    return {
        "forward": found.forward.value,
        "ivs": (found.calls.iv, found.puts.iv),
        "vendor": (found.calls.vendor_iv.values, found.puts.vendor_iv.values),
        "greeks": (found.calls.delta, found.calls.gamma, found.puts.vega, found.puts.theta),
        "prices": (found.calls.price, found.puts.price),
        "smile": (found.atm_iv, found.smile_measures.risk_reversal),
        "gex": (found.gamma_exposure.net, found.gamma_exposure.gross),
        "premium": found.premium.total,
        "ratios": (found.pcr, found.max_pain and found.max_pain.strike, found.atm, found.straddle),
        "findings": found.arbitrage.count,
        "doubts": found.flags,
    }


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [part for name in value for part in flat(value[name])]
    return [part for each in value for part in flat(each)] if isinstance(value, (list, tuple)) else [value]


def same(one: ChainAnalysis, other: ChainAnalysis) -> None:
    for mine, theirs in zip(flat(told(one)), flat(told(other)), strict=True):
        assert mine == (pytest.approx(theirs, rel=1e-6, abs=1e-6) if isinstance(theirs, float) else theirs)


@settings(deadline=None, max_examples=25)
@given(markets(), st.booleans())
def test_a_chain_in_other_units_says_the_same(market: Market, with_future: bool) -> None:
    future = {"future_price": market.forward} if with_future else {}
    plain = analyse(market.message(**future), contract=CURRENCY)
    assert plain.calls.iv == pytest.approx(market.ivs, rel=1e-3)
    coins = market.message(scale=market.forward, **future)
    in_coins = msgspec.structs.replace(COIN, tick_size=CURRENCY.tick_size / market.forward)
    same(plain, analyse(coins, contract=in_coins))
    in_currency = msgspec.structs.replace(in_coins, price_unit="quote")
    same(plain, analyse({**coins, "price_unit": "underlying"}, contract=in_currency))
    same(plain, analyse(market.message(percent=True, **future), contract=CURRENCY))
    units = market.message(held=LOT, **future)
    same(plain, analyse(units, contract=msgspec.structs.replace(CURRENCY, oi_unit="units")))
    same(plain, analyse({**units, "oi_unit": "units"}, contract=CURRENCY))
