"""What is remembered of the last chain of each expiry.

It is made from what was stored of a chain, also while the chain is still in hand, so that a restart, which
reads it back, changes no number. Volatilities of nodes are stored to 8 decimals for its sake.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import log
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from enricher.analytics import variance
from enricher.analytics.chain_prices import in_currency
from enricher.analytics.columns import Cells, columns
from enricher.analytics.contracts import Contract
from enricher.analytics.prices import MAX_AGE, Unit
from enricher.analytics.quote_arbitrage import ChainQuotes
from enricher.analytics.staleness import Ages, Fresh, fresh, leg_ages, reader
from enricher.analytics.volatility_smile import Smile
from enricher.clock import SECOND
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import Fields
from enricher.messages.models import Chain, Number

Totals = tuple[Number | None, Number | None, Number | None, Number | None]


class Moments(msgspec.Struct, frozen=True, gc=False):
    """When the quotes of a chain, and the prices that its smile's nodes rest on, were true: microseconds.

    Calls and puts stand beside the strikes, ``nodes`` beside the nodes.
    """

    calls: list[int]
    puts: list[int]
    nodes: list[int]


class ExpirySnapshot(msgspec.Struct, frozen=True):
    """The last chain of one expiry: ``totals`` are call and put open interest, call and put volume.

    ``row`` is what the surface shows of it. ``measures`` are what it says of the product as a whole.
    ``moments`` is None when all of it is of the chain's own moment; ``max_age_us`` is how long a price
    counts, ``expires_us`` the instant of expiry, ``least`` the least amount worth naming, ``identity`` the
    ``_id`` of its document; ``oi`` is the open interest of calls and puts beside the strikes of ``quotes``.
    ``spot`` is None where it is not known, or contradicts the options.
    """

    expiry: str
    event_us: int
    totals: Totals
    forward: float | None
    discount: float
    smile: Smile
    strip: variance.Strip
    quotes: ChainQuotes
    unit: Unit | None
    row: Fields
    measures: dict[str, float | None]
    moments: Moments | None = None
    max_age_us: int = int(MAX_AGE * SECOND)
    expires_us: int | None = None
    rate: float = 0.0
    least: float = 0.0
    identity: str = ""
    oi: tuple[Cells, Cells] = ([], [])
    spot: Number | None = None


def expiry_snapshot(
    chain: Chain, fields: Mapping[str, Any], contract: Contract, cells: Fresh | None = None
) -> ExpirySnapshot | None:
    """What later chains and the surface need of this one; ``fields`` are as stored. None if unanalysed.

    ``cells`` are its columns with prices in currency, when they are at hand.
    """
    found, t = fields.get("smile"), fields.get("years")
    if not isinstance(found, Mapping) or t is None:
        return None
    terms = fields["conventions"]
    max_age, scale = terms["max_price_age"], _price_scale(chain, terms)
    if cells is None:
        ages = leg_ages(chain, reader(ZoneInfo(terms.get("feed_zone", "UTC"))))
        cells = in_currency(fresh(columns(chain), ages, max_age), scale)
    ahead, swap, calls, puts = fields["forward"]["price"], fields["variance_swap"], cells.calls, cells.puts
    return ExpirySnapshot(
        expiry=chain.expiry,
        event_us=chain.event_us,
        totals=(
            fields["total_call_oi"],
            fields["total_put_oi"],
            fields["total_call_volume"],
            fields["total_put_volume"],
        ),
        forward=ahead,
        discount=fields["discount"],
        smile=_smile(found["strikes"], found["ivs"], ahead, t),
        strip=variance.Strip(
            t, swap["forward"], variance=swap["variance"], truncated=swap["truncated"], reason=swap["reason"]
        ),
        quotes=ChainQuotes(cells.strikes, calls.bid, calls.ask, puts.bid, puts.ask),
        unit=terms["vendor_iv"],
        row=_row(chain.event_us, fields),
        measures={name: row["value"] for name, row in fields.get("standing", {}).items()},
        moments=_moments(chain, cells, found["strikes"], ahead, fields["analytics"]["reasons"]),
        max_age_us=int(max_age * SECOND),
        expires_us=contract.expiry_us(chain.expiry),
        rate=terms["rate"],
        least=terms["tick_size"] * (scale or 0.0),
        spot=None if fields["atm_strike"] is None else chain.spot,
        oi=(calls.oi, puts.oi),
    )


def _price_scale(chain: Chain, terms: Mapping[str, Any]) -> float | None:
    """What prices were multiplied by; documents of older versions do not say, and took spot."""
    if "price_scale" in terms:
        scale: float | None = terms["price_scale"]
        return scale
    return float(chain.spot_price) if terms["price_unit"] == "underlying" else 1.0


def _row(event_us: int, fields: Mapping[str, Any]) -> Fields:
    """What the surface shows of a chain, with the reason beside what is null; a smile brings its own."""
    ahead, swap = fields["forward"]["price"], fields["variance_swap"]
    row = {
        "as_of_us": event_us,
        "years": fields["years"],
        "forward": ahead,
        "smile": fields["smile"],
        "variance_swap": swap["volatility"],
        "arbitrage": fields["arbitrage"],
    }
    if ahead is None:
        row["forward_reason"] = fields["flags"].get("forward", BEYOND)
    if swap["volatility"] is None:
        row["variance_swap_reason"] = swap["reason"] or BEYOND
    return row


def to_join(snapshot: ExpirySnapshot, identity: str) -> ExpirySnapshot:
    """What chains of other expiries need of this one to say something together, a tenth of it all.

    Where its quotes have times of their own that is the whole: each of them ages for itself.
    """
    if snapshot.moments is not None:
        return msgspec.structs.replace(snapshot, identity=identity)
    found, row = snapshot.smile, {"smile": {"atm_iv": snapshot.row["smile"]["atm_iv"]}}
    at = bisect_left(found.k, 0.0)
    around = slice(max(at - 1, 0), at + 1)
    narrow = msgspec.structs.replace(
        found, strikes=found.strikes[around], k=found.k[around], w=found.w[around], iv=found.iv[around],
        left_out={},
    )  # fmt: skip
    return msgspec.structs.replace(
        snapshot, smile=narrow, quotes=_NO_QUOTES, row=row, measures={}, identity=identity, oi=([], [])
    )


_NO_QUOTES: Final = ChainQuotes([], [], [], [], [])


def _smile(strikes: list[float], ivs: list[float], forward: float | None, t: float) -> Smile:
    if t <= 0 or not forward or not strikes:
        reason = "expired" if t <= 0 else "no_forward" if not forward else "no_nodes"
        return Smile(forward, t, [], [], [], [], {}, reason)
    ks = [log(strike / forward) for strike in strikes]
    return Smile(forward, t, strikes, ks, [iv * iv * t for iv in ivs], ivs, {}, None)


def _moments(
    chain: Chain, cells: Fresh, nodes: Sequence[float], forward: float | None, reasons: Mapping[str, Any]
) -> Moments | None:
    ages = cells.ages
    if all(column is None for side in (ages.calls, ages.puts) for column in (side.quotes, side.trades)):
        return None
    count, event_us = len(cells.strikes), chain.event_us
    calls, puts = _quoted(ages.calls, count, event_us), _quoted(ages.puts, count, event_us)
    by_call = _priced(ages.calls, calls, event_us, cells.strikes, reasons["calls"])
    by_put = _priced(ages.puts, puts, event_us, cells.strikes, reasons["puts"])
    place = {strike: at for at, strike in enumerate(cells.strikes)}
    middle = forward or 0.0
    of_nodes: list[int] = []
    for strike in nodes:
        at = place[strike]
        # A node is of the option out of the money, on the forward of both.
        call = by_call[at] if strike >= middle else event_us
        put = by_put[at] if strike <= middle else event_us
        of_nodes.append(min(call, put))
    return Moments(calls, puts, of_nodes)


def _quoted(ages: Ages, count: int, event_us: int) -> list[int]:
    return [event_us - round((age or 0) * SECOND) for age in ages.quotes or [None] * count]


def _priced(
    ages: Ages, quoted: list[int], event_us: int, strikes: Sequence[float], reasons: Mapping[str, Any]
) -> list[int]:
    """When the price of each option was true: when quoted, or when traded where the last price was taken."""
    moments, by_last = list(quoted), set(reasons.get("last_price", ()))
    for at, strike in enumerate(strikes):
        age = ages.trades[at] if ages.trades is not None and strike in by_last else None
        if age is not None:
            moments[at] = event_us - round(age * SECOND)
    return moments
