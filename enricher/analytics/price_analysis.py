"""What the prices of one chain say: forward, volatilities and Greeks of every leg, smile, exposures, strip.

`analyse_prices` gives all of it, unrounded, for a decoded chain and its contract, `analysis_steps` the same
bit by bit. The mathematics stands in the modules imported here, each with a page in ``docs/formulas``.
Nothing here looks at a clock or at another chain, but for ``unit_before``.
"""

from __future__ import annotations

from collections.abc import Collection
from math import exp
from typing import Final, Literal

import msgspec

from enricher.analytics import (
    american,
    black76,
    exposure,
    forward_price,
    india_vix,
    prices,
    quote_arbitrage,
    second_order,
    trading_time,
    variance,
    volatility_smile,
)
from enricher.analytics.chain_numbers import atm_strike
from enricher.analytics.chain_prices import ChainPrices, Chosen
from enricher.analytics.columns import Side
from enricher.analytics.contracts import Contract
from enricher.analytics.dividend_lattice import Dividends, present_value
from enricher.analytics.gamma_flip import ZeroGamma, zero_gamma_steps
from enricher.analytics.steps import Steps, at_once
from enricher.messages.models import Chain

UnitSetting = Literal["auto", "percent", "decimal"]
Extra = Literal["second_order", "trading_time", "india_vix"]

_NO_FORWARD: Final = 0.0
_FINDINGS: Final = 10  # that are named


class PricedSide(black76.GreekColumns, frozen=True):
    """Calls or puts as columns beside the strikes: volatilities and Greeks, and the prices they are of.

    ``price`` is what was computed with, in currency, ``source`` where it is from (``mid`` or ``last``),
    ``flags`` what is odd about it by index. ``vendor_iv`` are the volatilities that were sent, as decimals.
    ``sent`` has bid, ask, last, open interest and volume, without stale prices.
    """

    price: list[float | None]
    source: list[prices.Source | None]
    flags: dict[int, str]
    vendor_iv: prices.Decimals
    sent: Side


class PriceAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """All that one chain's prices say; prices in currency, volatilities as decimals a year.

    ``years`` is the time to expiry (365 days), ``discount`` exp(-rate * years), ``units`` currency per unit
    of open interest and price point. Exposures are in currency: ``gamma_exposure`` per 1 % move,
    ``vega_exposure`` per volatility point, ``premium`` what all open options are worth; ``delta_exposure`` is
    in units of the underlying times the multiplier. ``vendor_unit`` is that of the volatilities as sent, None
    without any. ``dividends`` are those in cash until expiry, (years, amount). ``quotes`` are bids and asks
    as `quote_arbitrage` takes them. Extras that were not asked for are None (``second_order``,
    ``trading_time``, ``india_vix``).
    """

    years: float
    discount: float
    units: float
    vendor_unit: prices.Unit | None
    calls: PricedSide
    puts: PricedSide
    forward: forward_price.Forward
    atm_forward_strike: float | None
    expected_move: forward_price.ExpectedMove
    smile: volatility_smile.Smile
    smile_measures: volatility_smile.SmileMeasures
    gamma_exposure: exposure.GammaExposure
    zero_gamma: ZeroGamma
    delta_exposure: exposure.Exposure
    vega_exposure: exposure.Exposure
    premium: exposure.Exposure
    oi_weighted_iv: float | None
    vega_weighted_iv: float | None
    variance_swap: variance.Strip
    quotes: quote_arbitrage.ChainQuotes
    arbitrage: quote_arbitrage.Findings
    dividends: Dividends = ()
    second_order: second_order.SecondOrderAnalysis | None = None
    trading_time: trading_time.TradingTime | None = None
    india_vix: india_vix.IndiaStrip | None = None


def analyse_prices(
    chain: Chain,
    priced: ChainPrices,
    contract: Contract,
    vendor_iv: UnitSetting = "auto",
    unit_before: prices.Unit | None = None,
    extras: Collection[Extra] = (),
) -> PriceAnalysis:
    """The analysis of a chain by its prices.

    ``vendor_iv`` is the unit of the volatilities as sent, ``unit_before`` that of the product's so far;
    ``extras`` are computed besides.
    ArithmeticError or ValueError where numbers are beyond what doubles hold.
    """
    return at_once(analysis_steps(chain, priced, contract, vendor_iv, unit_before, extras))


def analysis_steps(
    chain: Chain,
    priced: ChainPrices,
    contract: Contract,
    vendor_iv: UnitSetting = "auto",
    unit_before: prices.Unit | None = None,
    extras: Collection[Extra] = (),
) -> Steps[PriceAnalysis]:
    """`analyse_prices` in steps, of which none takes a millisecond with 200 strikes."""
    cells, spot, ahead, t = priced.cells, priced.spot, priced.forward, priced.years
    strikes, calls, puts = cells.strikes, cells.calls, cells.puts
    call_priced, put_priced, discount = priced.calls, priced.puts, priced.discount
    f = ahead.value or _NO_FORWARD
    terms = strikes, call_priced[0], put_priced[0], f, t, discount, contract.rate
    if contract.exercise == "american":
        own_calls, own_puts = yield from american.greeks_steps(*terms, spot, priced.dividends)
    else:
        own_calls, own_puts = black76.chain_greeks(*terms, _moving(spot, priced, contract))
    yield
    unit = _unit(vendor_iv, calls, puts, own_calls, own_puts, unit_before)
    nodes = volatility_smile.smile(
        strikes,
        own_calls.iv,
        own_puts.iv,
        ahead.value,
        t,
        _doubtful(own_calls, call_priced[2]),
        _doubtful(own_puts, put_priced[2]),
    )
    measured = volatility_smile.smile_measures(nodes)
    units = contract.units(chain.expiry)
    strip_forward = None  # its own, by parity
    if ahead.source == "future" or (contract.price_unit == "underlying" and ahead.source == "parity"):
        strip_forward = ahead.value
    elif priced.wide:
        strip_forward = variance.parity_forward(strikes, *priced.narrow, exp(contract.rate * max(t, 0.0)))
    zero_gamma = yield from zero_gamma_steps(
        strikes, own_calls.iv, own_puts.iv, calls.oi, puts.oi, price=spot, forward=f, years=t
    )
    yield
    quotes = quote_arbitrage.ChainQuotes(strikes, calls.bid, calls.ask, puts.bid, puts.ask)
    arbitrage = quote_arbitrage.check_chain(quotes, discount, least=priced.tick, cap=_FINDINGS)
    strip = variance.strip_by_mids(
        strikes, calls.bid, puts.bid, *priced.mids, t, contract.rate, strip_forward
    )
    yield
    return PriceAnalysis(
        years=t,
        discount=discount,
        units=units,
        vendor_unit=unit,
        calls=_priced(call_priced, own_calls, calls, unit, vendor_iv),
        puts=_priced(put_priced, own_puts, puts, unit, vendor_iv),
        forward=ahead,
        atm_forward_strike=None if ahead.value is None else atm_strike(strikes, ahead.value),
        expected_move=forward_price.expected_move(
            strikes, *priced.mids, spot=spot, forward=ahead.value, atm_iv=measured.atm_iv, years=t
        ),
        smile=nodes,
        smile_measures=measured,
        gamma_exposure=exposure.gamma_exposure(
            strikes, own_calls.gamma, own_puts.gamma, calls.oi, puts.oi, price=f, units=units
        ),
        zero_gamma=zero_gamma,
        delta_exposure=exposure.exposure(own_calls.delta, own_puts.delta, calls.oi, puts.oi, units),
        vega_exposure=exposure.exposure(own_calls.vega, own_puts.vega, calls.oi, puts.oi, units),
        premium=exposure.exposure(call_priced[0], put_priced[0], calls.oi, puts.oi, units),
        oi_weighted_iv=exposure.weighted_iv(own_calls.iv, own_puts.iv, calls.oi, puts.oi),
        vega_weighted_iv=exposure.weighted_iv(own_calls.iv, own_puts.iv, own_calls.vega, own_puts.vega),
        variance_swap=strip,
        quotes=quotes,
        arbitrage=arbitrage,
        dividends=priced.dividends,
        second_order=None if "second_order" not in extras else second_order.second_order_analysis(
            strikes,
            own_calls.iv, own_puts.iv, calls.oi, puts.oi,
            forward=f, years=t, discount=discount, rate=contract.rate, units=units,
        ),
        trading_time=None if "trading_time" not in extras else trading_time.trading_time(
            contract, chain.event_us, contract.expiry_us(chain.expiry)
        ),
        india_vix=None if "india_vix" not in extras else india_vix.india_variance(
            strikes, calls.bid, calls.ask, puts.bid, puts.ask,
            years=t, rate=contract.rate, future=ahead.value if ahead.source == "future" else None,
        ),
    )  # fmt: skip


def _moving(spot: float | None, priced: ChainPrices, contract: Contract) -> float | None:
    """Spot without the dividends in cash until expiry, which do not move."""
    if spot is None or not priced.dividends:
        return spot
    rest = spot - present_value(priced.dividends, contract.rate)
    return rest if rest > 0 else None


def _doubtful(own: black76.GreekColumns, flags: dict[int, str]) -> dict[int, str]:
    """The legs that are no nodes of a smile although they have a volatility."""
    doubtful = {at: reason for at, reason in flags.items() if reason != "locked"}
    doubtful.update(own.reasons)
    return doubtful


def _unit(
    setting: UnitSetting,
    calls: Side,
    puts: Side,
    own_calls: black76.GreekColumns,
    own_puts: black76.GreekColumns,
    before: prices.Unit | None,
) -> prices.Unit | None:
    vendor = calls.iv + puts.iv
    if setting != "auto":
        return setting if any(vendor) else None
    return prices.volatility_unit(vendor, own_calls.iv + own_puts.iv, before)


def _priced(
    chosen: Chosen, own: black76.GreekColumns, side: Side, unit: prices.Unit | None, setting: UnitSetting
) -> PricedSide:
    if unit is None:
        vendor = prices.Decimals([None] * len(side.iv))
    else:
        # A unit that was set holds for every leg.
        vendor = prices.as_decimals(side.iv, unit, own.iv if setting == "auto" else None)
    return PricedSide(
        own.iv, own.delta, own.delta_spot, own.gamma, own.vega, own.theta, own.rho, own.reasons,
        *chosen, vendor, side,
    )  # fmt: skip
