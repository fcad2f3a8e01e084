"""What still counts of the last chains at a later moment, and what the expiries of a product say together.

Prices go on ageing though no new chain comes: `snapshot_at` is the gate through which later moments look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from enricher.analytics import term_structure as term
from enricher.analytics import variance
from enricher.analytics.chain_numbers import ratio
from enricher.analytics.columns import total
from enricher.analytics.contracts import years
from enricher.analytics.quote_arbitrage import ChainQuotes
from enricher.analytics.staleness import without
from enricher.analytics.volatility_smile import Smile, total_variance
from enricher.market.serialisation import Fields, rounded
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.messages.models import Number

MONTH_DAYS: Final = 30
_NEVER: Final = 2**62


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
