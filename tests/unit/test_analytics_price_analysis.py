"""What the prices of one chain are taken to say, from its quotes to its exposures."""

from __future__ import annotations

from math import exp, fsum
from typing import Any

import msgspec
import pytest

from enricher.analytics import black76
from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.contracts import Contract, years
from enricher.analytics.price_analysis import PriceAnalysis, analyse_prices
from enricher.analytics.staleness import NO_AGES, fresh
from enricher.clock import event_us, render
from enricher.market.products import Contracts
from tests.chains import made_chain

NIFTY, EXPIRY, FORWARD = Contracts().of("NIFTY"), "2025-06-26", 21550.0
AT = event_us("2025-06-16T10:00:00+05:30")[0]


def analysed(stubs_from: float) -> PriceAnalysis:
    t = years(NIFTY.expiry_us(EXPIRY), AT)
    sides: list[list[dict[str, Any]]] = [[], []]
    for strike in range(20000, 24001, 500):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = max(black76.price(kind, FORWARD, strike, t, 0.15, 1 - NIFTY.rate * t), 0.2)
            quote = (0.05, 3000) if strike >= stubs_from else (value - 0.05, value + 0.05)
            legs.append({"strike": strike, "bid": quote[0], "ask": quote[1]})
    chain = made_chain("NIFTY", EXPIRY, 21500, render(AT, True), *sides)
    return analyse_prices(chain, chain_prices(chain, fresh(columns(chain), NO_AGES, 300), NIFTY), NIFTY)


def test_stub_quotes_do_not_speak_of_the_forward() -> None:
    found = analysed(stubs_from=22500)
    assert found.forward.value == pytest.approx(FORWARD, abs=2)
    assert found.forward.source == "parity"
    assert found.variance_swap.forward == pytest.approx(FORWARD, abs=2)
    assert found.variance_swap.k0 == 21500


def test_where_all_quotes_are_wide_they_are_all_there_is() -> None:
    assert analysed(stubs_from=0).forward.source == "parity"


SIGMA = 0.15


def priced(
    contract: Contract = NIFTY,
    at_us: int = AT,
    vendor_iv: Any = "auto",
    changed: dict[float, dict[str, Any]] | None = None,
    forward: float = FORWARD,
    unit_before: Any = None,
    scale: float = 1.0,
    future: float | None = None,
    **said: Any,
) -> PriceAnalysis:
    """The analysis of a chain quoted a step around Black's prices, its calls ``changed`` by strike."""
    t = max(years(contract.expiry_us(EXPIRY), at_us), 1e-9)
    sides: list[list[dict[str, Any]]] = [[], []]
    for strike in range(20000, 23001, 250):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = black76.price(kind, forward, strike, t, SIGMA, exp(-contract.rate * t)) / scale
            quote = {"bid": value * 0.999, "ask": value * 1.001, "open_interest": 100 + strike % 700}
            legs.append({"strike": strike, **quote, **said})
        sides[0][-1] |= (changed or {}).get(strike, {})
    chain = made_chain("N", EXPIRY, 21500, render(at_us, False), *sides, future_price=future)
    prices = chain_prices(chain, fresh(columns(chain), NO_AGES, 300), contract)
    return analyse_prices(chain, prices, contract, vendor_iv, unit_before)


def test_volatilities_come_back_from_the_prices_they_made() -> None:
    found = priced()
    assert found.smile.iv == pytest.approx([SIGMA] * 13, rel=1e-6)
    assert found.smile_measures.atm_iv == pytest.approx(SIGMA, rel=1e-6)
    assert found.forward.value == pytest.approx(FORWARD, abs=1e-6)
    assert found.atm_forward_strike == 21500


def test_the_future_of_a_chain_is_its_forward_and_that_of_its_variance_swap() -> None:
    found = priced(future=21755.0)
    assert (found.forward.value, found.forward.source) == (21755.0, "future")
    assert (found.variance_swap.forward, found.variance_swap.k0) == (21755.0, 21750)
    assert found.atm_forward_strike == 21750
    assert found.calls.iv[4] != pytest.approx(SIGMA, rel=1e-3)


def test_call_and_put_share_gamma_and_vega_and_their_deltas_are_one_discounted_unit_apart() -> None:
    found = priced()
    calls, puts = found.calls, found.puts
    assert calls.gamma == pytest.approx(puts.gamma, rel=1e-4)
    assert calls.vega == pytest.approx(puts.vega, rel=1e-4)
    apart = [call - put for call, put in zip(calls.delta, puts.delta, strict=True)]  # type: ignore[operator]
    assert apart == pytest.approx([found.discount] * 13, abs=1e-6)


def test_exposures_are_in_units_and_currency_of_the_whole_open_interest() -> None:
    found = priced()
    oi = [100 + strike % 700 for strike in range(20000, 23001, 250)]
    both = (found.calls, found.puts)
    deltas = fsum(d * n for side in both for d, n in zip(side.delta, oi, strict=True))  # type: ignore[operator]
    worth = fsum(p * n for side in both for p, n in zip(side.price, oi, strict=True))  # type: ignore[operator]
    assert found.units == NIFTY.lot_of(EXPIRY)
    assert found.delta_exposure.total == pytest.approx(deltas * found.units)
    assert found.premium.total == pytest.approx(worth * found.units)
    assert found.oi_weighted_iv == pytest.approx(SIGMA, rel=1e-6)
    assert found.vega_weighted_iv == pytest.approx(SIGMA, rel=1e-6)


def test_options_priced_in_coins_are_analysed_like_the_same_options_priced_in_dollars() -> None:
    coin = Contracts().of("BTC")
    dollar = msgspec.structs.replace(coin, price_unit="quote", tick_size=coin.tick_size * FORWARD)
    one, other = priced(coin, scale=FORWARD), priced(dollar)
    assert one.smile.iv == pytest.approx(other.smile.iv, rel=1e-9)
    assert one.premium.total == pytest.approx(other.premium.total)
    assert one.gamma_exposure.gross == pytest.approx(other.gamma_exposure.gross)
    assert one.arbitrage.count == other.arbitrage.count


def test_of_expired_options_there_is_no_volatility_no_greek_and_no_strip() -> None:
    found = priced(at_us=NIFTY.expiry_us(EXPIRY), changed={21000: {"last": 500, "bid": None, "ask": None}})
    assert set(found.calls.iv) == set(found.puts.gamma) == {None}
    assert (found.smile.reason, found.variance_swap.reason, found.zero_gamma.reason) == ("expired",) * 3
    assert found.discount == 1.0
    assert found.premium.total is not None


def test_without_a_pair_and_without_carry_there_is_no_forward_and_nothing_that_needs_one() -> None:
    cannot_be_held = msgspec.structs.replace(NIFTY, dividend_yield=None)
    found = priced(cannot_be_held, bid=None)
    assert found.forward.value is None
    assert found.atm_forward_strike is None
    assert found.smile.reason == "no_forward"
    assert set(found.calls.delta) == {None}


@pytest.mark.parametrize(
    ("quote", "flag", "node"),
    [
        ({"bid": 150, "ask": 150}, "locked", True),
        ({"bid": 150, "ask": 140, "last": 145}, "crossed", False),
        ({"bid": 1, "ask": 900}, "wide", False),
        ({"bid": None, "ask": 150}, "no_bid", False),
        ({"bid": None, "ask": None}, "no_price", False),
        ({"bid": None, "ask": 100, "last": 150}, "beyond_quote", False),
    ],
)
def test_a_doubtful_quote_is_named_and_is_no_node_of_the_smile(
    quote: dict[str, Any], flag: str, node: bool
) -> None:
    found = priced(changed={22000: quote})
    assert found.calls.flags[8] == flag
    assert (22000 in found.smile.strikes) == node


@pytest.mark.parametrize(("sent", "unit"), [(15.2, "percent"), (0.152, "decimal"), (None, None)])
def test_the_unit_of_the_vendors_volatilities_is_told_by_those_computed_here(sent: Any, unit: Any) -> None:
    found = priced(iv=sent)
    assert found.vendor_unit == unit
    assert found.calls.vendor_iv.values == [None if unit is None else pytest.approx(0.152)] * 13


def test_a_unit_that_is_set_holds_whatever_the_numbers_look_like() -> None:
    assert priced(vendor_iv="decimal", iv=9.2).calls.vendor_iv.values[0] == 9.2
    assert priced(vendor_iv="percent").vendor_unit is None


@pytest.mark.parametrize("before", ["percent", "decimal"])
def test_where_nothing_tells_it_the_unit_is_the_one_the_product_had(before: Any) -> None:
    assert priced(iv=2.5, unit_before=before, bid=None, ask=None).vendor_unit == before


def test_no_more_than_ten_findings_are_named_but_all_are_counted() -> None:
    strikes = range(20000, 23001, 250)
    upside_down = {strike: {"bid": strike - 19000, "ask": strike - 18990} for strike in strikes}
    found = priced(changed=upside_down).arbitrage
    assert len(found.listed) == 10 < found.count
    assert found.listed[0].amount >= found.listed[1].amount
