"""What the build-up of a product's chains is compared with: recent snapshots, and the first of each day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from enricher.analytics.as_of import JUMP_US
from enricher.analytics.position_buildup import Snapshot, SnapshotHistory
from enricher.clock import SECOND, span_us
from enricher.market.folds.fold import ChainChange, Fold, Product

_DAYS_KEPT = 8
_PAST_KEPT = 32  # expiries
_NONE: Final[frozenset[str]] = frozenset()  # each would take 216 bytes


class First(msgspec.Struct, frozen=True):
    """The first chain of an expiry on a local day (its ordinal): what the build-up of the day starts from."""

    day: int
    taken: Snapshot
    document_id: str


class Baselines(Fold):
    """The snapshots of one product, by expiry, that a later chain may be compared with.

    ``least_us`` is the least age of a baseline, which a product's contract may set for itself.
    """

    __slots__ = ("_past", "_pruned_us", "firsts", "least_us", "snapshots")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        own = product.contract.buildup_min_age
        self.least_us = span_us(product.settings.buildup_min_age if own is None else own)
        self.snapshots: dict[str, SnapshotHistory] = {}
        # By expiry and local day, those of the days heard of last.
        self.firsts: dict[str, dict[int, First]] = {}
        # The expiries of the past of which nothing has come since that was seen.
        self._past = _NONE
        self._pruned_us = 0

    @property
    def step_us(self) -> int:
        """Of each stretch of this length one snapshot is kept.

        Without a least age the baseline is simply the snapshot before, however near.
        """
        return min(30 * SECOND, self.least_us // 4)

    def fold_chain(self, change: ChainChange) -> None:
        """Remember a chain, which may be older than others."""
        expiry, taken, document_id = change.chain.expiry, change.taken, change.document_id
        history = self.snapshots.get(expiry)
        if history is None:
            history = self.snapshots[expiry] = SnapshotHistory(self.least_us, self.step_us)
        history.add(taken)
        day = self.product.session(change.event_us).day
        days = self.firsts.setdefault(expiry, {})
        first = days.pop(day, None)
        if first is None or (taken.event_us, document_id) < (first.taken.event_us, first.document_id):
            first = First(day, taken, document_id)
        days[day] = first
        if len(days) > _DAYS_KEPT:
            del days[next(iter(days))]
        if expiry in self._past:
            self._past -= {expiry}
        self.product.checkpoint.cover(change.event_us)

    def before(self, expiry: str, event_us: int) -> Snapshot | None:
        """The snapshot that build-up at ``event_us`` compares with; strictly earlier."""
        history = self.snapshots.get(expiry)
        snapshot = None if history is None else history.baseline(event_us)
        return snapshot if snapshot is not None and snapshot.event_us < event_us else None

    def first_of_day(self, expiry: str, event_us: int) -> Snapshot | None:
        """The first chain of this expiry on the local day of a moment, with which its build-up compares."""
        first = self.firsts.get(expiry, {}).get(self.product.session(event_us).day)
        return None if first is None else first.taken

    def prune(self, newest_us: int, past: Callable[[str], bool]) -> None:
        """Let go of expiries whose day is over, a day later, if no chain of them has come.

        Where time jumps nothing goes: there the feed begins whose past a replay is.
        """
        if newest_us - self._pruned_us < JUMP_US or len(self._past) > _PAST_KEPT:
            for expiry in self._past:
                for by_expiry in (self.product.as_of.by_expiry, self.snapshots, self.firsts):
                    by_expiry.pop(expiry, None)
        self._pruned_us = newest_us
        self._past = frozenset(expiry for expiry in self.snapshots if past(expiry)) or _NONE

    def identities(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The documents of all snapshots by expiry, with the firsts of earlier days, and those of the first
        of the last day."""
        snapshots = {expiry: history.identities() for expiry, history in self.snapshots.items()}
        firsts: dict[str, str] = {}
        for expiry, days in self.firsts.items():
            last = max(days)
            firsts[expiry] = days[last].document_id
            snapshots[expiry] += [first.document_id for day, first in days.items() if day != last]
        return snapshots, firsts
