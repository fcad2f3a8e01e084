"""One expiry as columns: what its open interest, its prices and its volatilities say.

``strikes`` ascend and every column stands beside them, one value a strike, None or NaN where it is not known.
Most of these are the functions that the worker computes with, their arguments checked: see `arguments`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import msgspec

from enricher.analytics import (
    chain_numbers,
    exposure,
    forward_price,
    india_vix,
    oi_walls,
    quote_arbitrage,
    raw_svi,
    variance,
    volatility_smile,
)
from enricher.analytics.arguments import POSITIVE, checked, column, number
from enricher.analytics.columns import Column
from enricher.analytics.oi_walls import TradingRange, Wall
from enricher.analytics.quote_arbitrage import ChainQuotes, Findings
from enricher.analytics.raw_svi import SviFit
from enricher.analytics.volatility_smile import Smile

pcr = checked(chain_numbers.pcr)
max_pain = checked(chain_numbers.max_pain)
atm = checked(chain_numbers.atm_strike)
forward = checked(forward_price.forward)
straddle = checked(forward_price.straddle)
expected_move = checked(forward_price.expected_move)
gamma_exposure = checked(exposure.gamma_exposure)
zero_gamma = checked(exposure.zero_gamma)
smile = checked(volatility_smile.smile)
variance_swap = checked(variance.variance_strip)
india_variance_swap = checked(india_vix.india_variance)


class Walls(msgspec.Struct, frozen=True):
    """The strikes with most open interest: calls from spot upwards, puts from spot downwards, largest first.

    ``range`` lies between the first of each, None when a side has none.
    """

    resistance: tuple[Wall, ...]
    support: tuple[Wall, ...]
    range: TradingRange | None


@checked
def walls(strikes: Sequence[float], call_oi: Column, put_oi: Column, spot: float, count: int = 3) -> Walls:
    """Resistance and support by open interest, at most ``count`` strikes of each.

    Of equals the one nearer to spot comes first. It is a reading of open interest, and no law of prices.
    """
    above = oi_walls.walls(strikes, call_oi, spot, "resistance", count)
    below = oi_walls.walls(strikes, put_oi, spot, "support", count)
    return Walls(above, below, oi_walls.trading_range(below, above, spot))


@checked
def arbitrage(
    strikes: Sequence[float],
    call_bids: Column,
    call_asks: Column,
    put_bids: Column,
    put_asks: Column,
    *,
    years: float,
    rate: float = 0.0,
    forward_bid: float | None = None,
    forward_ask: float | None = None,
    least: float = 0.0,
    count: int = quote_arbitrage.CAP,
) -> Findings:
    """Profits without risk at the quoted prices, bought at the ask and sold at the bid.

    Verticals, butterflies and put-call parity worth more than ``least``; at most ``count`` of them are named.
    ``forward_bid`` and ``forward_ask`` are of a future of this expiry. Fees and sizes are not looked at.
    """
    quotes = ChainQuotes(strikes, call_bids, call_asks, put_bids, put_asks)
    discount = exp(-rate * max(years, 0.0))
    return quote_arbitrage.check_chain(quotes, discount, forward_bid, forward_ask, least, count)


def svi(smile: Smile, weights: Sequence[float] | None = None) -> SviFit:
    """Raw SVI fitted to the nodes of a smile, and whether it allows a butterfly arbitrage.

    ``weights`` stand beside the nodes (vegas unless given). Without a curve the ``reason`` says why: that of
    a smile without nodes, or ``too_few_nodes`` (fewer than 5).
    """
    if smile.reason is not None:
        return SviFit(None, 0, reason=smile.reason)
    if weights is not None:
        weights = [number("weights", each, POSITIVE) for each in column("weights", weights, len(smile.k))]
    return raw_svi.fit(smile.k, smile.w, smile.years, weights)
