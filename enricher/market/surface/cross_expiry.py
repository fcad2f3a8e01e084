"""What a volatility surface says beyond the vendor's volatilities: smiles, term structure, calendar.

The smile of every expiry is that of its last chain, without the prices that are too old by now; what two
expiries say of each other is kept until one of them has a newer chain or a price grows stale. An expiry
without a smile does not stand between two that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from math import sqrt
from typing import Any

import msgspec

from enricher.analytics import term_structure as term
from enricher.analytics.calendar_spreads import Offers, calendar, offers
from enricher.analytics.rounding import rounded_all
from enricher.analytics.volatility_smile import Smile, volatility
from enricher.clock import SECOND
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import rounded
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.snapshot_at import SnapshotAt, at_money, snapshot_at, years_at
from enricher.market.surface.svi_scheduler import curve

Pair = tuple[str, str]
Rows = list[dict[str, Any]]
Compared = tuple[Rows, int]  # the largest, and how many there are

_CAP = 10
_INCOMPARABLE = {"term": None, "calendar": None, "flags": {"term": BEYOND, "calendar": BEYOND}}


class Row(msgspec.Struct):
    """What counts of one expiry, and what others can be traded against, once that is asked for."""

    seen: SnapshotAt
    made: Offers | None = None

    @property
    def offers(self) -> Offers:
        if self.made is None:
            self.made = offers(self.seen.quotes)
        return self.made


class Joined(msgspec.Struct, frozen=True):
    """What counts of all expiries at a moment: ``money`` is `at_money` of them, ``term`` as shown."""

    now_us: int
    rows: list[SnapshotAt]
    money: tuple[list[float], list[float]]
    term: dict[str, Any]


Pairs = dict[Pair, tuple[Row, Row, Compared]]


class CrossExpiry:
    """The comparison of the expiries of one product, kept pair by pair.

    Total variance is compared between neighbours, for where all know it, what falls between more distant ones
    falls between neighbours too. What can be traded on is looked for between each and the next two: bids and
    asks leave room for a profit from the first expiry to the third which the second, quoted widely, does not
    show. All pairs would be twice the work of everything else here where there are twenty expiries.
    """

    __slots__ = ("_quoted", "_seen", "_shown", "_smiling")

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, Row]] = {}
        self._smiling: Pairs = {}
        self._quoted: Pairs = {}
        self._shown: Joined | None = None

    def joined(self, known: Sequence[ExpirySnapshot], now_us: int) -> Joined:
        """What these say together: as on the surface, if that shows the same at the same moment."""
        shown = self._shown
        if (
            shown is not None
            and shown.now_us == now_us
            and len(shown.rows) == len(known)
            and all(row.of is snapshot for row, snapshot in zip(shown.rows, known, strict=True))
        ):
            return shown
        return _joined([row.seen for row in self._as_of(known, now_us)], now_us)

    def fields(
        self, known: Sequence[ExpirySnapshot], curves: Mapping[str, dict[str, Any]], now_us: int | None = None
    ) -> dict[str, Any]:
        """The part of a surface that is computed from prices; ``known`` ascend by expiry.

        ``now_us`` is the moment of the surface, that of the newest chain unless given. Where numbers are
        beyond what doubles hold the smiles stand alone, and ``flags`` says so: nothing else of the product
        must fail with them.
        """
        now_us = max((last.event_us for last in known), default=0) if now_us is None else now_us
        smiles = [{"expiry": last.expiry, **last.row, **curve(curves, last.expiry)} for last in known]
        try:
            return {"smiles": smiles, **self._together(known, now_us)}
        except (ArithmeticError, ValueError):
            self._smiling, self._quoted, self._shown = {}, {}, None
            return {"smiles": smiles, **_INCOMPARABLE}

    def _together(self, known: Sequence[ExpirySnapshot], now_us: int) -> dict[str, Any]:
        rows = self._as_of(known, now_us)
        self._seen = {last.expiry: self._seen[last.expiry] for last in known}
        self._shown = shown = _joined([row.seen for row in rows], now_us)
        smiling = pairwise(row for row in rows if row.seen.smile.reason is None)
        alone = len(rows) == 1  # and has nobody to be traded against
        quoted = _near_pairs([row for row in rows if not alone and row.seen.of.forward and row.offers.any])
        self._smiling, falls, fall_count = _compared(self._smiling, smiling, _falls)
        self._quoted, findings, count = _compared(self._quoted, quoted, _executable)
        return {
            "term": shown.term,
            "calendar": {
                "violations": falls,
                "violation_count": fall_count,
                "executable": findings,
                "executable_count": count,
            },
        }

    def _as_of(self, known: Sequence[ExpirySnapshot], now_us: int) -> list[Row]:
        """What still counts of each; the same object for as long as nothing more has grown stale."""
        rows: list[Row] = []
        for last in known:
            held = self._seen.get(last.expiry)
            # By identity: a chain that is corrected keeps its time and says something else.
            if held is None or held[1].seen.of is not last or not held[0] <= now_us <= held[1].seen.until_us:
                held = self._seen[last.expiry] = (now_us, Row(snapshot_at(last, now_us)))
            rows.append(held[1])
        return rows


def _joined(rows: list[SnapshotAt], now_us: int) -> Joined:
    """With the term structure of volatility at the money."""
    years, ws = at_money(rows, now_us)
    shown = {
        "years": rounded_all(years, 10),
        "ivs": rounded_all([sqrt(w / t) for t, w in zip(years, ws, strict=True)]),
        "left_out": _left_out(rows, now_us),
        "maturities": [
            {"days": term_iv.days, "iv": rounded(term_iv.iv), "reason": term_iv.reason}
            for term_iv in (term.constant_maturity(years, ws, days) for days in term.DAYS)
        ],
        "forwards": [
            {
                "near": rounded(forward.near_years, 10),
                "far": rounded(forward.far_years, 10),
                "variance": rounded(forward.variance, 8),
                "volatility": rounded(forward.volatility),
                "reason": forward.reason,
            }
            for forward in term.forward_variances(years, ws)
        ],
    }
    return Joined(now_us, rows, (years, ws), shown)


def _near_pairs(rows: Sequence[Row]) -> Iterable[tuple[Row, Row]]:
    """Each row with the next two."""
    return chain(pairwise(rows), zip(rows, rows[2:], strict=False))


def _compared(
    held: Pairs, wanted: Iterable[tuple[Row, Row]], compare: Callable[[Row, Row], Compared]
) -> tuple[Pairs, Rows, int]:
    """The pairs with what they say of each other, the largest of all of it, and how much there is."""
    pairs: Pairs = {}
    for near, far in wanted:
        key = (near.seen.of.expiry, far.seen.of.expiry)
        last = held.get(key)
        if last is None or last[0] is not near or last[1] is not far:
            last = (near, far, compare(near, far))
        pairs[key] = last
    largest_first = [row for _, _, (largest, _) in pairs.values() for row in largest]
    largest_first.sort(key=lambda row: -row["amount"])
    return pairs, largest_first[:_CAP], sum(count for _, _, (_, count) in pairs.values())


def _left_out(rows: Sequence[SnapshotAt], now_us: int) -> dict[str, str]:
    """The expiries that have no volatility at the money at this moment, and why."""
    reasons: dict[str, str] = {}
    for row in rows:
        if years_at(row.of, now_us) <= 0:
            reasons[row.of.expiry] = "expired"
        elif (reason := volatility(row.smile, 0.0)[1]) is not None:
            reasons[row.of.expiry] = reason
    return reasons


def _falls(near: Row, far: Row) -> Compared:
    """Where total variance falls from one expiry to the next, by the prices that the smiles are made of."""
    moment = max(near.seen.of.event_us, far.seen.of.event_us)
    smiles = [_smile_at(row.seen, moment) for row in (near, far)]
    every = term.calendar_violations(snapshot for snapshot in smiles if snapshot is not None)
    rows = [
        {
            "near": near.seen.of.expiry,
            "far": far.seen.of.expiry,
            "k": rounded(fall.k),
            "amount": rounded(fall.amount, 8),
        }
        for fall in every[:_CAP]
    ]
    return rows, len(every)


def _smile_at(row: SnapshotAt, moment_us: int) -> Smile | None:
    """The smile with the time to expiry of another moment, volatilities kept; None once expired.

    Two chains minutes apart would differ in time by those minutes, which is much of the last day.
    """
    smile, t = row.smile, years_at(row.of, moment_us)
    if t <= 0 or smile.reason is not None:
        return None
    if t == smile.years:
        return smile
    return msgspec.structs.replace(smile, years=t, w=[w * t / smile.years for w in smile.w])


def _executable(near: Row, far: Row) -> Compared:
    """What of it can be traded on at the quoted prices."""
    first, second = near.seen.of, far.seen.of
    moment = max(first.event_us, second.event_us)
    # An expiry centuries away has a discount that is shown as 0: nobody trades what is worth nothing today.
    if not (first.forward and second.forward and first.discount and second.discount):
        return [], 0
    if years_at(first, moment) <= 0:
        return [], 0
    findings = calendar(
        near.offers, first.forward, first.discount, far.offers, second.forward, second.discount,
        least=first.least, cap=_CAP,
    )  # fmt: skip
    rows = [
        {
            "near": first.expiry,
            "far": second.expiry,
            "option": finding.option,
            "strikes": list(finding.strikes),
            "amount": rounded(finding.amount, 4),
            "apart": abs(first.event_us - second.event_us) / SECOND,
        }
        for finding in findings.listed
    ]
    return rows, findings.count
