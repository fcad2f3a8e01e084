"""The formulas of `market.analytics` over one chain, one after the other, for `benchmarks.least`.

The functions are enricher's own and so are the digits; what is around them is not here: no reasons, no rules
for what is odd in an input, nothing of other chains, expiries or days.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

from benchmarks.least_parts import Chain, Leg
from enricher.analytics import black76, exposure, forward_price, prices, quote_arbitrage, variance
from enricher.analytics.chain_numbers import atm_strike, pcr_by_strike
from enricher.analytics.contracts import years
from enricher.analytics.volatility_smile import smile, smile_measures
from enricher.market.products import Contracts

_CONTRACTS = Contracts()
_GREEKS = (("iv", 6), ("delta", 6), ("gamma", 10), ("vega", 6), ("theta", 6), ("rho", 6))


def priced(chain: Chain, us: int) -> dict[str, Any]:
    """Forward, volatilities, Greeks, smile, exposures, strip and arbitrage of a chain of this event time."""
    contract, spot = _CONTRACTS.of(chain.product), chain.spot_price
    call_legs, put_legs = ({leg.strike: leg for leg in legs} for legs in (chain.calls, chain.puts))
    strikes = sorted({*chain.strikes, *call_legs, *put_legs})
    calls, puts = ([legs.get(k, _NO_LEG) for k in strikes] for legs in (call_legs, put_legs))
    (call_prices, call_mids), (put_prices, put_mids) = _paid(calls, contract), _paid(puts, contract)
    call_oi, put_oi = [leg.open_interest for leg in calls], [leg.open_interest for leg in puts]
    t, units = years(contract.expiry_us(chain.expiry), us), contract.units(chain.expiry)
    discount = exp(-contract.rate * t)
    ahead = forward_price.forward(strikes, call_mids, put_mids, spot=spot, years=t, rate=contract.rate)
    f = ahead.value or 0.0
    of_calls, of_puts = black76.chain_greeks(
        strikes, call_prices, put_prices, f, t, discount, contract.rate, spot
    )
    nodes = smile(strikes, of_calls.iv, of_puts.iv, f, t)
    measures = smile_measures(nodes)
    move = forward_price.expected_move(
        strikes, call_mids, put_mids, spot=spot, forward=f, atm_iv=measures.atm_iv, years=t
    )
    gamma = exposure.gamma_exposure(
        strikes, of_calls.gamma, of_puts.gamma, call_oi, put_oi, price=f, units=units
    )
    zero = exposure.zero_gamma(
        strikes, of_calls.iv, of_puts.iv, call_oi, put_oi, price=spot, forward=f, years=t
    )
    asked = [[getattr(leg, of) for leg in side] for side in (calls, puts) for of in ("bid", "ask")]
    strip = variance.variance_strip(strikes, *asked, years=t, rate=contract.rate)
    quotes = quote_arbitrage.ChainQuotes(strikes, *asked)
    arbitrage = quote_arbitrage.check_chain(quotes, discount, least=contract.tick_size)
    totals = {
        name: exposure.exposure(*columns, call_oi, put_oi, units)
        for name, columns in (
            ("delta", (of_calls.delta, of_puts.delta)),
            ("vega", (of_calls.vega, of_puts.vega)),
            ("premium", (call_prices, put_prices)),
        )
    }
    weighted = exposure.weighted_iv(of_calls.iv, of_puts.iv, call_oi, put_oi)
    by_vega = exposure.weighted_iv(of_calls.iv, of_puts.iv, of_calls.vega, of_puts.vega)
    return {
        "forward": {"price": _round(ahead.value), "source": ahead.source, "strikes": list(ahead.strikes)},
        "atm_forward_strike": atm_strike(strikes, f),
        "atm_iv": _round(measures.atm_iv),
        "expected_move": {"straddle": _round(move.straddle), "one_sigma": _round(move.one_sigma)},
        "smile": {
            "call_25_iv": _round(measures.call_25_iv),
            "put_25_iv": _round(measures.put_25_iv),
            "slope": _round(measures.slope),
            "average_iv": _round(measures.average_iv),
            "ivs": _rounded(nodes.iv, 8),
        },
        "gex": {"net": _round(gamma.net, 2), "zero_gamma": _round(zero.price, 4)},
        "exposure": {
            **{name: {"total": _round(total.total, 2)} for name, total in totals.items()},
            "oi_weighted_iv": _round(weighted),
            "vega_weighted_iv": _round(by_vega),
        },
        "variance_swap": {"volatility": _round(strip.volatility), "variance": _round(strip.variance, 10)},
        "arbitrage": {"count": arbitrage.count},
        "analytics": {
            "strikes": strikes,
            "gex": _rounded(gamma.by_strike, 2),
            "pcr": _rounded(pcr_by_strike(call_oi, put_oi), 4),
            **{
                name: {of: _rounded(getattr(side, of), digits) for of, digits in _GREEKS}
                for name, side in (("calls", of_calls), ("puts", of_puts))
            },
        },
    }


def _paid(legs: Sequence[Leg], contract: Any) -> tuple[list[float | None], list[float | None]]:
    """The price of each leg, and the same where it is a mid."""
    sent = [leg.bid for leg in legs], [leg.ask for leg in legs], [leg.last for leg in legs]
    values, sources, _ = prices.choose(*sent, contract.tick_size)
    return values, [value if by == "mid" else None for value, by in zip(values, sources, strict=True)]


def _round(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(value, digits)


def _rounded(values: Sequence[float | None], digits: int) -> list[float | None]:
    return [None if value is None else round(value, digits) for value in values]


_NO_LEG = Leg(0)
