"""What is remembered of the last chain of each expiry, and what the expiries of a product say together.

It is made from what was stored of a chain, also while the chain is still in hand, so that a restart, which
reads it back, changes no number. Volatilities of nodes are stored to 8 decimals for its sake. What is
remembered goes on ageing: `snapshot_at` is the gate through which later moments look at it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from enricher.analytics import term_structure as term
from enricher.analytics import variance
from enricher.analytics.chain_numbers import ratio
from enricher.analytics.columns import Cells, columns, total
from enricher.analytics.contracts import Contract, years
from enricher.analytics.price_analysis import price_scale
from enricher.analytics.prices import MAX_AGE, Unit
from enricher.analytics.quote_arbitrage import ChainQuotes
from enricher.analytics.staleness import Ages, Fresh, fresh, leg_ages, reader, without
from enricher.analytics.volatility_smile import Smile, total_variance
from enricher.clock import SECOND
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import Fields, rounded
from enricher.messages.models import Chain, Number

MONTH_DAYS: Final = 30
_NEVER: Final = 2**62

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


class SnapshotAt(msgspec.Struct, frozen=True):
    """What still counts of a chain at a later moment; ``until_us`` is the last one at which this is all.

    Years are those of the chain, see `years_at`. ``stale`` is the reason of a smile and a strip of which
    nothing is left.
    """

    of: ExpirySnapshot
    smile: Smile
    strip: variance.Strip
    quotes: ChainQuotes
    until_us: int


def expiry_snapshot(
    chain: Chain, fields: Mapping[str, Any], contract: Contract, cells: Fresh | None = None
) -> ExpirySnapshot | None:
    """What later chains and the surface need of this one; ``fields`` are as stored. None if unanalysed.

    ``cells`` are its columns with prices in currency, when they are at hand.
    """
    found, t = fields.get("smile"), fields.get("years")
    if not isinstance(found, Mapping) or t is None:
        return None
    terms, scale = fields["conventions"], price_scale(contract, chain.spot_price)
    max_age = terms["max_price_age"]
    if cells is None:
        ages = leg_ages(chain, reader(ZoneInfo(terms.get("feed_zone", "UTC"))))
        cells = fresh(columns(chain, scale), ages, max_age)
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
        least=terms["tick_size"] * scale,
        oi=(calls.oi, puts.oi),
    )


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


def snapshot_at(snapshot: ExpirySnapshot, now_us: int) -> SnapshotAt:
    """What still counts at ``now_us``: prices age on though no new chain comes."""
    since_us, moments, quotes = now_us - snapshot.max_age_us, snapshot.moments, snapshot.quotes
    if moments is None:
        if snapshot.event_us >= since_us:
            until_us = snapshot.event_us + snapshot.max_age_us
            return SnapshotAt(snapshot, snapshot.smile, snapshot.strip, quotes, until_us)
        every = range(len(quotes.strikes))
        return _without(snapshot, now_us, every, every, [])
    nodes = [at for at, us in enumerate(moments.nodes) if us >= since_us]
    stale_calls, stale_puts = (
        [at for at, us in enumerate(column) if us < since_us] for column in (moments.calls, moments.puts)
    )
    if not stale_calls and not stale_puts and len(nodes) == len(moments.nodes):
        oldest_us = min((*moments.calls, *moments.puts, *moments.nodes), default=snapshot.event_us)
        return SnapshotAt(snapshot, snapshot.smile, snapshot.strip, quotes, oldest_us + snapshot.max_age_us)
    return _without(snapshot, now_us, stale_calls, stale_puts, nodes)


def years_at(snapshot: ExpirySnapshot, now_us: int) -> float:
    """Time to expiry from this moment; zero or less once expired."""
    if snapshot.expires_us is None or now_us == snapshot.event_us:
        return snapshot.smile.years
    return years(snapshot.expires_us, now_us)


def at_money(rows: Iterable[SnapshotAt], now_us: int) -> tuple[list[float], list[float]]:
    """Years and total variances at the money, ascending in time, of all that still have a smile there.

    Time to expiry is that of ``now_us`` for all of them, whenever their chains came; volatilities are kept.
    """
    points: list[tuple[float, float]] = []
    for row in rows:
        t = years_at(row.of, now_us)
        w = total_variance(row.smile, 0.0) if row.smile.reason is None and t > 0 else None
        if w is not None:
            points.append((t, w * t / row.smile.years))
    points.sort()
    return [t for t, _ in points], [w for _, w in points]


def front(now: Iterable[SnapshotAt]) -> tuple[str, float] | None:
    """The first expiry that has a volatility at the money, and that volatility as it was published."""
    for row in now:
        iv = row.of.row["smile"]["atm_iv"]
        if iv is not None and total_variance(row.smile, 0.0) is not None:
            return row.of.expiry, iv
    return None


def together(
    now: Sequence[SnapshotAt], today: Sequence[ExpirySnapshot], now_us: int, expected: int | None = None
) -> Fields:
    """The numbers that all expiries make together.

    Put-call ratios over the chains of ``today`` (the sums first), volatilities to 30 days over those of
    ``now``, the last minutes before ``now_us``, when two of their expiries bracket 30 days. ``expected`` is
    how many expiries are known of (default: those of ``now``).
    """
    return {
        "expiries": len(now),
        "expected": len(now) if expected is None else expected,
        **ratios(sums(today)),
        **to_month(now, at_money(now, now_us), now_us),
    }


def sums(rows: Sequence[ExpirySnapshot]) -> list[Number | None]:
    """The totals of all: call and put open interest, call and put volume."""
    return [total(column) for column in zip(*(row.totals for row in rows), strict=True)] or [None] * 4


def ratios(totals: Sequence[Number | None]) -> Fields:
    """Put-call ratios of `sums`."""
    calls, puts, call_volume, put_volume = totals
    by_oi, by_volume = ratio(puts, calls), ratio(put_volume, call_volume)
    return {"pcr_oi": rounded(by_oi, 4), "pcr_volume": rounded(by_volume, 4)}


def to_month(
    rows: Sequence[SnapshotAt], money: tuple[Sequence[float], Sequence[float]], now_us: int
) -> Fields:
    """Volatilities to 30 days: at the money (``money`` as from `at_money`), and of a variance swap."""
    at_30 = term.constant_maturity(*money, MONTH_DAYS)
    strips = [
        msgspec.structs.replace(row.strip, years=years_at(row.of, now_us))
        for row in rows
        if row.strip.variance is not None
    ]
    swap = variance.constant_maturity(strips, MONTH_DAYS / term.YEAR_DAYS)
    return {
        "iv_30d": rounded(at_30.iv),
        "iv_30d_reason": at_30.reason,
        "variance_swap_30d": {
            "volatility": rounded(swap.volatility),
            "near": rounded(swap.near, 10),
            "far": rounded(swap.far, 10),
            "truncated": swap.truncated,
            "reason": swap.reason,
        },
    }


def _smile(
    strikes: Sequence[float], ivs: Sequence[float], forward: float | None, t: float
) -> Smile:
    if t <= 0 or not forward or not strikes:
        reason = "expired" if t <= 0 else "no_forward" if not forward else "no_nodes"
        return Smile(forward, t, [], [], [], [], {}, reason)
    ks = [log(strike / forward) for strike in strikes]
    return Smile(forward, t, list(strikes), ks, [iv * iv * t for iv in ivs], list(ivs), {}, None)


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


def _without(
    snapshot: ExpirySnapshot, now_us: int, calls: Sequence[int], puts: Sequence[int], nodes: Sequence[int]
) -> SnapshotAt:
    """What is left without the quotes of these places, and with these nodes."""
    held, found, strip = snapshot.quotes, snapshot.smile, snapshot.strip
    quotes = ChainQuotes(
        held.strikes,
        without(held.call_bids, calls),
        without(held.call_asks, calls),
        without(held.put_bids, puts),
        without(held.put_asks, puts),
    )
    if found.reason is None:
        strikes, ks, ws, ivs = (
            [column[at] for at in nodes] for column in (found.strikes, found.k, found.w, found.iv)
        )
        found = Smile(found.forward, found.years, strikes, ks, ws, ivs, {}, None if nodes else "stale")
    if strip.variance is not None:
        strip = _strip_of(snapshot, quotes)
    return SnapshotAt(snapshot, found, strip, quotes, _next_stale(snapshot, now_us))


def _strip_of(snapshot: ExpirySnapshot, left: ChainQuotes) -> variance.Strip:
    if not any(bid is not None for column in (left.call_bids, left.put_bids) for bid in column):
        return variance.Strip(snapshot.strip.years, reason="stale")
    return variance.variance_strip(
        left.strikes, left.call_bids, left.call_asks, left.put_bids, left.put_asks,
        years=snapshot.strip.years, rate=snapshot.rate, forward=snapshot.strip.forward,
    )  # fmt: skip


def _next_stale(snapshot: ExpirySnapshot, now_us: int) -> int:
    moments = snapshot.moments
    if moments is None:
        return _NEVER
    every = (*moments.calls, *moments.puts, *moments.nodes)
    max_age_us = snapshot.max_age_us
    return min((us + max_age_us for us in every if us + max_age_us >= now_us), default=_NEVER)
