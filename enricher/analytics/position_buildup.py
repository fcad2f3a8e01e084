"""Build-up of positions: what price and open interest did between two snapshots of a chain.

Price and open interest up is a long build-up, price down and open interest up a short one, price
up and open interest down short covering, both down long unwinding. For puts the reading flips:
a short build-up of puts is bullish.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final, Literal

import msgspec

from enricher.analytics.as_of import JUMP_US, Fronts
from enricher.analytics.columns import Columns, total
from enricher.clock import MINUTE, SECOND
from enricher.messages.models import Chain, Leg, Number

Label = Literal[
    "long_buildup", "short_buildup", "short_covering", "long_unwinding", "neutral"
]  # fmt: skip
Held = tuple[Sequence[Number | None], Sequence[Number | None]]
_NOTHING: Final[tuple[Number | None, Number | None]] = (None, None)
_event_us: Final = attrgetter("event_us")

# The exchange refreshes open interest only every few minutes: nearer snapshots show no change.
BASELINE_AGE_US: Final = 3 * MINUTE
HISTORY_STEP_US: Final = 30 * SECOND


class Taken(msgspec.Struct, frozen=True, gc=False):
    """Last and open interest of one side, by strike: columns, for many are kept for long. None is unknown."""

    strikes: tuple[Number, ...] = ()
    last: tuple[Number | None, ...] = ()
    interest: tuple[Number | None, ...] = ()

    def of(self, strikes: Sequence[Number]) -> Held:
        """Both columns at these strikes."""
        if strikes == self.strikes:
            return self.last, self.interest
        rows = dict(zip(self.strikes, zip(self.last, self.interest, strict=True), strict=True))
        found = [rows.get(strike, _NOTHING) for strike in strikes]
        return [last for last, _ in found], [interest for _, interest in found]


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """What is kept of one chain, which is stored under ``identity``."""

    event_us: int
    calls: Taken = Taken()
    puts: Taken = Taken()
    identity: str = ""


class Buildup(msgspec.Struct, frozen=True):
    """Labels by strike (as numbers, for 100 and 100.0 are one strike) and the change of each side.

    A label is None where a price or an open interest is unknown or a price is 0. The changes sum
    the legs whose open interest is known in both snapshots, None when there is none.
    """

    since_us: int
    calls: dict[Number, Label | None]
    puts: dict[Number, Label | None]
    call_oi_change: Number | None
    put_oi_change: Number | None


def snapshot(chain: Chain, identity: str = "") -> Snapshot:
    """What later build-up needs of a chain; ``identity`` is the ``_id`` it is stored under."""
    return Snapshot(chain.event_us, _taken(chain, chain.call_at), _taken(chain, chain.put_at), identity)


def buildup(now: Snapshot, before: Snapshot, half_tick: float) -> Buildup:
    """The build-up of every leg in ``now`` since ``before``.

    A price change smaller than ``half_tick`` (half the least price step, in price units), or an
    unchanged open interest, is neutral. ValueError unless ``before`` is earlier: a snapshot that
    comes late says nothing about what followed it.
    """
    if before.event_us >= now.event_us:
        raise ValueError(f"a baseline of {before.event_us} us is not before {now.event_us} us")
    calls, call_change = _side(now.calls, before.calls.of(now.calls.strikes), half_tick)
    puts, put_change = _side(now.puts, before.puts.of(now.puts.strikes), half_tick)
    return Buildup(before.event_us, calls, puts, call_change, put_change)


def since_open(now: Snapshot, first: Snapshot | None, cells: Columns, half_tick: float) -> Buildup | None:
    """The build-up of the day: since its ``first`` chain, open interest as the exchange counts its change.

    Where the exchange sent no change of open interest, it is that since the first chain. None when this is
    the first chain of its day, unless the exchange's changes tell something all the same: then ``since_us``
    is that of this chain, and no leg has a label, for no earlier price is known.
    """
    calls, puts = cells.calls.oi_change, cells.puts.oi_change
    sent = calls.count(None) < len(calls) or puts.count(None) < len(puts)
    earlier = first is not None and first.event_us < now.event_us
    if not earlier and not sent:
        return None
    start = first if first is not None and earlier else Snapshot(now.event_us)
    call_before = start.calls.of(now.calls.strikes)
    put_before = start.puts.of(now.puts.strikes)
    if sent:
        call_before = _opening(now.calls, call_before, cells.strikes, calls)
        put_before = _opening(now.puts, put_before, cells.strikes, puts)
    call_labels, call_change = _side(now.calls, call_before, half_tick)
    put_labels, put_change = _side(now.puts, put_before, half_tick)
    return Buildup(start.event_us, call_labels, put_labels, call_change, put_change)


def _opening(
    now: Taken, first: Held, strikes: Sequence[Number], changes: Sequence[Number | None]
) -> Held:
    """One side as it stood before the day, as far as that is known."""
    change_at = dict(zip(strikes, changes, strict=True))
    last, interest = first
    before = [
        held if now_held is None or (change := change_at.get(strike)) is None else now_held - change
        for strike, now_held, held in zip(now.strikes, now.interest, interest, strict=True)
    ]
    return last, before


class SnapshotHistory:
    """The recent snapshots of one product and expiry, for finding the baseline of the next.

    Time is cut into steps of ``step_us`` and of each only the earliest snapshot is kept, so that it stays
    small at any pace: about ``age_us / step_us`` of them. Steps of the clock, not distances between
    neighbours: what is kept depends neither on the order of arrival nor on where a restart begins to read.
    A replay of the past finds its own beside those of the live feed (`enricher.analytics.as_of`).
    """

    def __init__(self, age_us: int = BASELINE_AGE_US, step_us: int = HISTORY_STEP_US) -> None:
        self.age_us = max(1, age_us)  # one of the same moment says nothing of what followed it
        self.step_us = step_us
        self._kept: list[Snapshot] = []
        self._fronts = Fronts(self.age_us, JUMP_US, self.age_us)

    def add(self, taken: Snapshot) -> None:
        """Remembers a snapshot; one that comes late finds its place and changes no other."""
        kept = self._kept
        self._fronts.touch(taken.event_us)
        at = bisect_right(kept, taken.event_us, key=_event_us)
        if at and self._same_step(kept[at - 1], taken):
            if kept[at - 1].event_us == taken.event_us and taken.identity < kept[at - 1].identity:
                kept[at - 1] = taken
            return
        if at < len(kept) and self._same_step(kept[at], taken):
            kept[at] = taken
        else:
            kept.insert(at, taken)
        # The newest that is old enough where a stream stands serves it there and all that follow.
        for stretch in self._fronts.unwanted([one.event_us for one in kept]):
            del kept[stretch]

    def _same_step(self, one: Snapshot, other: Snapshot) -> bool:
        return self.step_us > 0 and one.event_us // self.step_us == other.event_us // self.step_us

    def baseline(self, event_us: int) -> Snapshot | None:
        """The newest snapshot at least ``age_us`` before this moment and earlier, None if there is none."""
        at = bisect_left(self._kept, event_us - self.age_us + 1, key=_event_us)
        return self._kept[at - 1] if at else None

    def identities(self) -> list[str]:
        """The documents of what is kept, for finding them again."""
        return [taken.identity for taken in self._kept]

    def __len__(self) -> int:
        return len(self._kept)


def _taken(chain: Chain, legs: Mapping[Number, Leg]) -> Taken:
    strikes = chain.strikes if len(legs) == len(chain.strikes) else tuple(sorted(legs))
    return Taken(
        strikes,
        tuple([legs[strike].last for strike in strikes]),
        tuple([legs[strike].open_interest for strike in strikes]),
    )


def _side(
    now: Taken, before: Held, half_tick: float
) -> tuple[dict[Number, Label | None], Number | None]:
    labels: dict[Number, Label | None] = {}
    changes: list[Number] = []
    rows = zip(now.strikes, now.last, now.interest, *before, strict=True)
    for strike, last, oi, last_before, oi_before in rows:
        label: Label | None = None
        if oi is not None and oi_before is not None:
            interest = oi - oi_before
            changes.append(interest)
            if last and last_before:
                price = last - last_before
                if not interest or not price or -half_tick < price < half_tick:
                    label = "neutral"
                elif interest > 0:
                    label = "long_buildup" if price > 0 else "short_buildup"
                else:
                    label = "short_covering" if price > 0 else "long_unwinding"
        labels[strike] = label
    return labels, total(changes)
