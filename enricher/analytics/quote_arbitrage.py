"""Whether the quotes of a chain contradict each other: profits that can be traded on at the quoted prices.

Whoever trades buys at the ask and sells at the bid, so prices that differ by less than the spread are no
contradiction. Prices, strikes, forward and amounts share one unit; ``discount`` is D = exp(-rate * T). Sizes,
fees and margin are not looked at. The laws are those of European options; an American chain may break them a
little (parity first). Sources: R. Merton, Theory of rational option pricing, 1973; P. Carr and D. Madan, A
note on sufficient conditions for no arbitrage, 2005.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from operator import attrgetter, neg
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from enricher.analytics.columns import Column
from enricher.messages.models import Number

Kind = Literal["vertical_below_zero", "vertical_above_width", "butterfly", "parity", "calendar"]
Option = Literal["call", "put"]
Points = list[tuple[float, float]]
Values = Sequence[float | None]

CAP: Final = 20
ROUNDING: Final = 1e-9  # of the highest strike: less is what rounding leaves where quotes just touch


class ChainQuotes(msgspec.Struct, frozen=True, gc=False):
    """The quotes of one expiry as columns beside ascending ``strikes``.

    A bid counts when it is positive, an ask too, and neither when the bid is above the ask.
    """

    strikes: Sequence[float]
    call_bids: Column
    call_asks: Column
    put_bids: Column
    put_asks: Column


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One profit: ``amount`` in price units, for one option sold (parity: for one forward sold).

    ``option`` is None for parity. ``strikes`` by kind: ``vertical_below_zero`` and ``vertical_above_width``
    (lower, higher); ``butterfly`` (wing, body, wing); ``parity`` (where the forward is sold, where it is
    bought), with None for the quoted forward; ``calendar`` (near, then one far strike or two).
    """

    kind: Kind
    option: Option | None
    strikes: tuple[float | None, ...]
    amount: float


class Findings(msgspec.Struct, frozen=True, gc=False):
    """The largest findings first, and how many there are with those cut off."""

    listed: tuple[Finding, ...]
    count: int


def check_chain(
    quotes: ChainQuotes,
    discount: float,
    forward_bid: float | None = None,
    forward_ask: float | None = None,
    least: float = 0.0,
    cap: int = CAP,
) -> Findings:
    """Every contradiction within one expiry worth more than ``least``, at most ``cap`` of them named.

    ``forward_bid`` and ``forward_ask`` are of a future or another quote that is not made of these options;
    one price may stand for both. Without them parity is judged by the forwards of the other strikes.
    """
    strikes = quotes.strikes
    if not strikes:
        return Findings((), 0)
    least = max(least, ROUNDING * strikes[-1])
    call_bids, call_asks = usable(quotes.call_bids, quotes.call_asks)
    put_bids, put_asks = usable(quotes.put_bids, quotes.put_asks)
    findings: list[Finding] = []
    _verticals("call", strikes, call_bids, call_asks, discount, least, findings)
    _verticals("put", strikes, put_bids, put_asks, discount, least, findings)
    _butterflies("call", strikes, call_bids, call_asks, least, findings)
    _butterflies("put", strikes, put_bids, put_asks, least, findings)
    columns = call_bids, call_asks, put_bids, put_asks
    _parity(strikes, columns, discount, forward_bid, forward_ask, least, findings)
    return _as_sent(largest(findings, cap), strikes) if findings else Findings((), 0)


def _as_sent(found: Findings, strikes: Sequence[Number]) -> Findings:
    """Whole strikes as whole numbers, which are doubles where this module is compiled."""
    sent = dict(zip(strikes, strikes, strict=True))
    listed = [
        replace(each, strikes=tuple([None if strike is None else sent[strike] for strike in each.strikes]))
        for each in found.listed
    ]
    return Findings(tuple(listed), found.count)


def largest(findings: Iterable[Finding], cap: int = CAP) -> Findings:
    """These findings by falling amount, cut off after ``cap``; also for those of several checks together."""
    ordered = sorted(findings, key=attrgetter("amount"), reverse=True)
    return Findings(tuple(ordered[:cap]), len(ordered))


def usable(bids: Values, asks: Values) -> tuple[list[float], list[float]]:
    """Prices that somebody stands by: -inf for no bid and inf for no ask, so that no sum with them pays."""
    sold: list[float] = []
    bought: list[float] = []
    for bid, ask in zip(bids, asks, strict=True):
        sell = bid if bid is not None and 0 < bid < inf else -inf
        buy = ask if ask is not None and 0 < ask < inf else inf
        if sell > buy:
            sell, buy = -inf, inf
        sold.append(sell)
        bought.append(buy)
    return sold, bought


def _verticals(
    option: Option,
    strikes: Sequence[float],
    bids: Sequence[float],
    asks: Sequence[float],
    discount: float,
    least: float,
    findings: list[Finding],
) -> None:
    """0 <= C(K1) - C(K2) <= D (K2 - K1), and for puts the other way round, of each strike with all others.

    With each strike the best partner below it is enough, and a running extreme is that partner: one pass
    finds the worst of all pairs. Mirrored (strikes and order negated), puts are calls.
    """
    if option == "put":
        columns = zip(map(neg, reversed(strikes)), reversed(bids), reversed(asks), strict=True)
    else:
        columns = zip(strikes, bids, asks, strict=True)
    cheapest = dearest = 0.0
    least_ask, most_bid = inf, -inf
    for strike, bid, ask in columns:
        worth = discount * strike
        if bid - least_ask > least:
            pair = (cheapest, strike) if option == "call" else (-strike, -cheapest)
            findings.append(Finding("vertical_below_zero", option, pair, bid - least_ask))
        if most_bid - worth - ask > least:
            pair = (dearest, strike) if option == "call" else (-strike, -dearest)
            findings.append(Finding("vertical_above_width", option, pair, most_bid - worth - ask))
        if ask < least_ask:
            least_ask, cheapest = ask, strike
        if bid + worth > most_bid:
            most_bid, dearest = bid + worth, strike


def _butterflies(
    option: Option,
    strikes: Sequence[float],
    bids: Sequence[float],
    asks: Sequence[float],
    least: float,
    findings: list[Finding],
) -> None:
    """Prices are convex in the strike: a body may not be sold for more than its best two wings cost.

    The best wings of all are the corners of the lower hull of the asks on either side of the body. A body
    that is a corner itself costs less than any wings would.
    """
    offered = [(strike, ask) for strike, ask in zip(strikes, asks, strict=True) if ask < inf]
    if len(offered) < 2:
        return
    hull = lower_hull(offered)
    if len(hull) == len(strikes):  # as those of a calm market are
        return
    at, last = 1, len(hull) - 1
    (left, left_ask), (right, right_ask) = hull[0], hull[1]
    for strike, bid in zip(strikes, bids, strict=True):
        if bid <= least or strike <= left:
            continue
        while strike >= right and at < last:
            at += 1
            (left, left_ask), (right, right_ask) = hull[at - 1], hull[at]
        if left < strike < right:
            share = (strike - left) / (right - left)
            amount = bid - left_ask - share * (right_ask - left_ask)
            if amount > least:
                findings.append(Finding("butterfly", option, (left, strike, right), amount))


def _parity(
    strikes: Sequence[float],
    columns: tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]],
    discount: float,
    forward_bid: float | None,
    forward_ask: float | None,
    least: float,
    findings: list[Finding],
) -> None:
    """A forward sold at one strike, K + (call bid - put ask)/D, may not fetch more than one bought elsewhere.

    With each strike that sells goes the cheapest other seller of forwards: another strike, K + (call ask -
    put bid)/D, or the quoted forward. Discounted: D F for D K + call - put.
    """
    sellers: list[tuple[float, float | None]] = []
    buyers: list[tuple[float, float | None]] = []
    for strike, call_bid, call_ask, put_bid, put_ask in zip(strikes, *columns, strict=True):
        worth = discount * strike
        sellers.append((worth + call_ask - put_bid, strike))
        buyers.append((worth + call_bid - put_ask, strike))
    if forward_ask is not None and 0 < forward_ask < inf:
        sellers.append((discount * forward_ask, None))
    if forward_bid is not None and 0 < forward_bid < inf:
        buyers.append((discount * forward_bid, None))
    best: tuple[float, float | None] = (inf, None)
    second = best
    for offer in sellers:
        if offer[0] < best[0]:
            best, second = offer, best
        elif offer[0] < second[0]:
            second = offer
    for price, at in buyers:
        cost, other = second if at == best[1] else best
        if price - cost > least:
            findings.append(Finding("parity", None, (at, other), price - cost))


def lower_hull(points: Points) -> Points:
    """The corners of the largest convex function that is nowhere above the points."""
    hull: Points = []
    corners = 0
    x1 = y1 = x2 = y2 = 0.0  # the last two corners
    for x, y in points:
        while corners > 1 and (y2 - y1) * (x - x2) >= (y - y2) * (x2 - x1):
            hull.pop()
            corners -= 1
            x2, y2 = x1, y1
            if corners > 1:
                x1, y1 = hull[-2]
        hull.append((x, y))
        corners += 1
        x1, y1, x2, y2 = x2, y2, x, y
    return hull
