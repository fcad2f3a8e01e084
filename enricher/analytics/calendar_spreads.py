"""Profits between two expiries that can be traded on at the quoted prices.

``offers`` reduces the quotes of one expiry to what the comparison needs, once for all others that it is set
against; ``calendar`` compares two. Prices, strikes, forwards and amounts share one unit. Source: J. Gatheral
and A. Jacquier, Arbitrage-free SVI volatility surfaces, 2012, lemma 2.1, with convexity in the strike.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec

from enricher.analytics.quote_arbitrage import (
    CAP,
    ROUNDING,
    ChainQuotes,
    Finding,
    Findings,
    Option,
    Points,
    largest,
    lower_hull,
    usable,
)

_SAME: Final = 1e-12  # share by which equal strikes may differ


class Offers(msgspec.Struct, frozen=True, gc=False):
    """One expiry as `calendar` needs it: (strike, bid) where there is one, and the hulls of the asks."""

    highest: float
    call_bids: Points
    call_hull: Points
    put_bids: Points
    put_hull: Points

    @property
    def any(self) -> bool:
        """Whether there is anything to sell or to buy."""
        return bool(self.call_bids or self.call_hull or self.put_bids or self.put_hull)


def offers(quotes: ChainQuotes) -> Offers:
    """What an expiry has to set against others; made once, it serves the comparison with all of them."""
    sides: list[tuple[Points, Points]] = []
    for bids, asks in ((quotes.call_bids, quotes.call_asks), (quotes.put_bids, quotes.put_asks)):
        sold, bought = usable(bids, asks)
        wanted = [(strike, bid) for strike, bid in zip(quotes.strikes, sold, strict=True) if bid > 0]
        offered = [(strike, ask) for strike, ask in zip(quotes.strikes, bought, strict=True) if ask < inf]
        sides.append((wanted, lower_hull(offered)))
    return Offers(quotes.strikes[-1] if quotes.strikes else 0.0, *sides[0], *sides[1])


def calendar(
    near: Offers,
    near_forward: float,
    near_discount: float,
    far: Offers,
    far_forward: float,
    far_discount: float,
    least: float = 0.0,
    cap: int = CAP,
) -> Findings:
    """Every option of the nearer expiry that can be sold for more than the farther one costs at equal K/F.

    C/(D F) at equal K/F does not fall with time when carry is known beforehand. Sold is one near option of
    strike K, bought are D1 F1/(D2 F2) far ones of strike K F2/F1, or of the two strikes around it that cost
    least and by convexity are worth no less. Amounts are what is left of the near bid.
    """
    least = max(least, ROUNDING * near.highest)
    grown = far_forward / near_forward
    scale = near_discount / (far_discount * grown)
    findings: list[Finding] = []
    _covered("call", near.call_bids, far.call_hull, grown, scale, least, findings)
    _covered("put", near.put_bids, far.put_hull, grown, scale, least, findings)
    return largest(findings, cap)


def _covered(
    option: Option,
    bids: Points,
    hull: Points,
    grown: float,
    scale: float,
    least: float,
    findings: list[Finding],
) -> None:
    """Adds the bids that pay for the corner of the hull, or the two corners, at the same moneyness.

    Bids and hull ascend in strike, so that one walk along both is enough.
    """
    at, end = 0, len(hull)
    bought: tuple[float, ...]
    for strike, bid in bids:
        # A strike times F2/F1 meets the same moneyness but for rounding, which must not put it beyond an end.
        target = strike * grown
        lowest, highest = target * (1 - _SAME), target * (1 + _SAME)
        while at < end and hull[at][0] < lowest:
            at += 1
        if at == end:
            return
        right, right_ask = hull[at]
        if right <= highest:
            cost, bought = right_ask, (strike, right)
        elif at:
            left, left_ask = hull[at - 1]
            share = (target - left) / (right - left)
            cost, bought = left_ask + share * (right_ask - left_ask), (strike, left, right)
        else:
            continue
        if bid - scale * cost > least:
            findings.append(Finding("calendar", option, bought, bid - scale * cost))
