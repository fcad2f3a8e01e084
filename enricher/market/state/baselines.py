"""What the build-up of a product's chains is compared with: recent snapshots, and the first of each day."""

from __future__ import annotations

from typing import Any

import msgspec

from enricher.analytics.contracts import Contract
from enricher.analytics.position_buildup import Snapshot, SnapshotHistory
from enricher.clock import SECOND

_DAYS_KEPT = 8


class First(msgspec.Struct, frozen=True):
    """The first chain of an expiry on a local day (its ordinal): what the build-up of the day starts from."""

    day: int
    taken: Snapshot
    document_id: str


class Baselines:
    """The snapshots of one product, by expiry, that a later chain may be compared with.

    ``least_us`` is the least age of a baseline, which ``contract`` may set for the product alone.
    """

    __slots__ = ("firsts", "least_us", "snapshots")

    def __init__(self, least_us: int, contract: Contract) -> None:
        own = contract.buildup_min_age
        self.least_us = least_us if own is None else int(own * SECOND)
        self.snapshots: dict[str, SnapshotHistory] = {}
        # By expiry and local day, those of the days heard of last.
        self.firsts: dict[str, dict[int, First]] = {}

    @property
    def step_us(self) -> int:
        """Of each stretch of this length one snapshot is kept.

        Without a least age the baseline is simply the snapshot before, however near.
        """
        return min(30 * SECOND, self.least_us // 4)

    def add(self, expiry: str, taken: Snapshot, document_id: str, day: int) -> None:
        """Remember a chain of the local day ``day``, which may be older than others."""
        history = self.snapshots.get(expiry)
        if history is None:
            history = self.snapshots[expiry] = SnapshotHistory(self.least_us, self.step_us)
        history.add(taken)
        days = self.firsts.setdefault(expiry, {})
        held = days.pop(day, None)
        if held is None or (taken.event_us, document_id) < (held.taken.event_us, held.document_id):
            held = First(day, taken, document_id)
        days[day] = held
        if len(days) > _DAYS_KEPT:
            del days[next(iter(days))]

    def before(self, expiry: str, event_us: int) -> Snapshot | None:
        """The snapshot that build-up at ``event_us`` compares with; strictly earlier."""
        history = self.snapshots.get(expiry)
        found = None if history is None else history.baseline(event_us)
        return found if found is not None and found.event_us < event_us else None

    def first(self, expiry: str, day: int) -> Snapshot | None:
        """The first chain of this expiry on a local day, which build-up of the day compares with."""
        held = self.firsts.get(expiry, {}).get(day)
        return None if held is None else held.taken

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

    def forget_first(self, expiry: str) -> None:
        """Let go of the first chain of an expiry's day."""
        self.firsts.pop(expiry, None)

    @property
    def by_expiry(self) -> tuple[dict[str, Any], ...]:
        """What is held by expiry, for whoever drops what has expired."""
        return self.snapshots, self.firsts
