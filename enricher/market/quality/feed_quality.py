"""Whether a product's feed is whole: missing, repeated and disordered ticks, silence, and jumps of the price.

`FeedWatch.fold_all` takes every tick that arrives, duplicates too, and returns what is wrong with them
(almost always nothing); `FeedWatch.check` says whether the feed is silent while its market is open;
`FeedWatch.payload` is the plain data for ``feed:health:{product}``. All times are microseconds since 1970
UTC: ``event_us`` of the tick, ``received_us`` and ``now_us`` of the clock, which is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from enricher.analytics.contracts import Contract
from enricher.clock import SECOND, render
from enricher.config import PositiveSeconds, Section
from enricher.messages.models import Number, Tick, TickId

Kind = Literal[
    "gap", "repeated", "reused_id", "restarted_ids", "out_of_order", "silence", "price_jump", "stale"
]
Status = Literal["ok", "stale", "delayed", "waiting", "closed", "unknown_hours"]

_GAPS_KEPT = 64
_LONGEST_NUMBER = 18  # digits of an id that counts as a number


class WatchSettings(Section, frozen=True, kw_only=True):
    """From when on something is worth saying.

    ``stale_after`` seconds without a tick while the market is open; ``silence`` seconds of event time
    between two ticks of one session; ``price_jump`` a share of the price (0.05 is 5 %) between two ticks at
    most ``jump_within`` seconds apart.
    """

    stale_after: PositiveSeconds = 60.0
    silence: PositiveSeconds = 30.0
    price_jump: Annotated[float, Meta(gt=0)] = 0.05
    jump_within: PositiveSeconds = 300.0


class Finding(msgspec.Struct, frozen=True, gc=False):
    """One thing that is wrong, at which event time; ``amount`` says how much.

    ``gap``: ticks missing. ``silence`` and ``stale``: seconds. ``out_of_order``: seconds behind the newest.
    ``price_jump``: the change as a share of the price before. Else 1.
    """

    kind: Kind
    event_us: int
    amount: float


class FeedWatch:
    """What the ticks of one product say about its feed. Owned by the product's lane.

    A tick id that is a whole number (or a text of digits) is expected to grow by one. A jump ahead is a gap
    until the missing ticks come. An id that is not ahead is a late tick if it was missing, ``repeated`` if
    its event time is not new either, else ``reused_id``. Ids that start over are accepted with a new local
    day, or at the second tick whose id ascends below the highest while event time goes on; a gap that they
    return into is taken back. Counters count from the start of the watch.
    """

    __slots__ = (
        "_contract", "_first", "_gaps", "_highest", "_jump_us", "_last_text", "_low", "_now_session",
        "_session", "_settings", "_silence_us", "counts", "delay_us", "heard_us", "missing", "newest_us",
        "price", "product", "since_us", "ticks",
    )  # fmt: skip

    def __init__(
        self, product: str, contract: Contract, now_us: int, settings: WatchSettings | None = None
    ) -> None:
        self.product = product
        self.since_us = now_us
        self.heard_us: int | None = None
        self.newest_us: int | None = None
        self.delay_us = 0
        self.price: Number = 0
        self.ticks = 0
        self.missing = 0
        self.counts: dict[Kind, int] = {}
        self._contract = contract
        self._settings = settings or WatchSettings()
        self._silence_us = round(self._settings.silence * SECOND)
        self._jump_us = round(self._settings.jump_within * SECOND)
        self._session = self._now_session = contract.session(now_us)
        self._highest: int | None = None
        self._first = 0
        self._low: int | None = None
        self._gaps: list[tuple[int, int]] = []  # ids not seen yet, both ends included, ascending
        self._last_text: str | None = None

    def fold_all(self, arrived: Sequence[tuple[Tick, int]]) -> list[tuple[Finding, int]]:
        """Takes ticks in, each with its receipt, and says what is wrong with them, usually nothing."""
        found: list[tuple[Finding, int]] = []
        if not self._follows_well([tick for tick, _ in arrived]):
            for tick, at_us in arrived:
                found += [(each, at_us) for each in self.fold(tick.event_us, at_us, tick.tick_id, tick.price)]
            return found
        tick, self.heard_us = arrived[-1]
        self.ticks += len(arrived)
        self.newest_us, self.price, self.delay_us = tick.event_us, tick.price, self.heard_us - tick.event_us
        self._highest, self._low = (self._highest or 0) + len(arrived), None
        return found

    def _follows_well(self, ticks: Sequence[Tick]) -> bool:
        """Whether ticks come as nearly all do: each with the next id, soon after, at about the same price."""
        newest, highest, before = self.newest_us, self._highest, self.price
        if newest is None or highest is None:
            return False
        if [tick.tick_id for tick in ticks] != [*range(highest + 1, highest + 1 + len(ticks))]:
            return False
        times = [newest, *[tick.event_us for tick in ticks]]
        prices = [before, *[tick.price for tick in ticks]]
        least, last_us = min(prices), times[-1]
        soon = last_us - newest < self._silence_us and last_us < self._session.end_us
        return soon and max(prices) - least < self._settings.price_jump * least and times == sorted(times)

    def fold(self, event_us: int, received_us: int, tick_id: TickId, price: Number) -> tuple[Finding, ...]:
        """Takes a tick in and says what is wrong with it."""
        self.ticks += 1
        self.heard_us = received_us
        self.delay_us = received_us - event_us
        if self.newest_us is None:
            self._begin(event_us, tick_id, price)
            return ()
        return self._look(event_us, event_us - self.newest_us, tick_id, price)

    def check(self, now_us: int) -> Finding | None:
        """How long the feed has been silent, if it is stale; None otherwise."""
        if self.status(now_us) != "stale":
            return None
        return Finding("stale", self.newest_us or self.since_us, self._silent_us(now_us) / SECOND)

    def status(self, now_us: int) -> Status:
        """The verdict at a moment of the clock.

        While the market is open: ``stale`` after too long a silence, counted from the last tick received, the
        opening or the start of the watch, whichever is latest; ``delayed`` when ticks come but the
        newest event is as old as that; ``waiting`` before the first tick of the session; else ``ok``.
        Otherwise ``closed``, which no silence disturbs, or ``unknown_hours`` where the contract names none.
        """
        session = self._now_session
        if not session.start_us <= now_us < session.end_us:
            session = self._now_session = self._contract.session(now_us)
        if self._contract.session_open is None:
            return "unknown_hours"
        if not session.is_open(now_us):
            return "closed"
        limit_us = self._settings.stale_after * SECOND
        if self._silent_us(now_us) >= limit_us:
            return "stale"
        heard, newest = self.heard_us, self.newest_us
        if heard is None or newest is None or heard < (session.open_us or 0):
            return "waiting"
        return "delayed" if now_us - newest >= limit_us and self.delay_us >= limit_us else "ok"

    def payload(self, now_us: int) -> dict[str, Any]:
        """The state of the feed as plain data: verdict, ages and delay in seconds, counters, times in UTC."""
        newest, heard = self.newest_us, self.heard_us
        return {
            "product": self.product,
            "status": self.status(now_us),
            "at": render(now_us, naive=False),
            "since": render(self.since_us, naive=False),
            "last_event": None if newest is None else render(newest, naive=False),
            "last_event_age": None if newest is None else (now_us - newest) / SECOND,
            "last_received_age": None if heard is None else (now_us - heard) / SECOND,
            "delay": None if heard is None else self.delay_us / SECOND,
            "ticks": self.ticks,
            "missing": self.missing,
            "counts": dict(self.counts),
        }

    def _begin(self, event_us: int, tick_id: TickId, price: Number) -> None:
        self.newest_us = event_us
        self.price = price
        self._session = self._contract.session(event_us)
        self._start_ids(_number(tick_id))
        self._last_text = tick_id if isinstance(tick_id, str) else None

    def _look(self, event_us: int, elapsed: int, tick_id: TickId, price: Number) -> tuple[Finding, ...]:
        """What is wrong with a tick that is ``elapsed`` us newer than the newest."""
        findings: list[Finding] = []
        new_day = event_us >= self._session.end_us
        if new_day:
            self._session = self._contract.session(event_us)
        number = _number(tick_id)
        repeated = False
        if number is not None:
            repeated = self._follow(number, event_us, elapsed, new_day, findings)
        elif isinstance(tick_id, str):
            repeated = elapsed == 0 and tick_id == self._last_text
            self._last_text = tick_id
        if repeated:
            findings.append(Finding("repeated", event_us, 1))
        elif elapsed < 0:
            findings.append(Finding("out_of_order", event_us, -elapsed / SECOND))
        elif not new_day:
            self._compare(event_us, elapsed, price, findings)
        if elapsed >= 0 and not repeated:
            self.newest_us = event_us
            self.price = price
        for finding in findings:
            self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        return tuple(findings)

    def _compare(self, event_us: int, elapsed: int, price: Number, findings: list[Finding]) -> None:
        """Silence and jump of the price since the tick before, of the same day."""
        session, before = self._session, self.price
        if elapsed >= self._silence_us and session.is_open(event_us - elapsed) and session.is_open(event_us):
            findings.append(Finding("silence", event_us, elapsed / SECOND))
        change = price / before - 1 if before else 0.0
        if elapsed <= self._jump_us and abs(change) >= self._settings.price_jump:
            findings.append(Finding("price_jump", event_us, change))

    def _follow(
        self, number: int, event_us: int, elapsed: int, new_day: bool, findings: list[Finding]
    ) -> bool:
        """Follows the sequence of ids; True for a tick that has been here before."""
        highest = self._highest
        if highest is None or (new_day and number != highest + 1):
            self._start_ids(number)
        elif number > highest:
            lost = number - highest - 1
            if lost:
                findings.append(Finding("gap", event_us, lost))
                self.missing += lost
                self._gaps.append((highest + 1, number - 1))
                del self._gaps[:-_GAPS_KEPT]
            self._highest, self._low = number, None
        else:
            return self._behind(number, event_us, elapsed, findings)
        return False

    def _behind(self, number: int, event_us: int, elapsed: int, findings: list[Finding]) -> bool:
        """An id that is not ahead of the highest: late, repeated, used again, or of ids that start over."""
        low = self._low
        if elapsed > 0:
            self._low = number
            if low is not None and number > low:
                findings.append(Finding("restarted_ids", event_us, 1))
                self.missing -= sum(last - first + 1 for first, last in self._gaps if first > low)
                self._start_ids(number)
                return False
        if self._fill(number):
            self.missing -= 1
            if elapsed >= 0:
                findings.append(Finding("out_of_order", event_us, 0.0))
        elif elapsed > 0:
            findings.append(Finding("reused_id", event_us, 1))
        else:
            return number >= self._first
        return False

    def _fill(self, number: int) -> bool:
        """Takes an id out of the gaps; False when it is in none."""
        for at, (first, last) in enumerate(self._gaps):
            if first <= number <= last:
                rest = [(first, number - 1), (number + 1, last)]
                self._gaps[at : at + 1] = [gap for gap in rest if gap[0] <= gap[1]]
                del self._gaps[:-_GAPS_KEPT]
                return True
        return False

    def _start_ids(self, number: int | None) -> None:
        self._highest, self._first, self._low = number, number or 0, None
        self._gaps.clear()

    def _silent_us(self, now_us: int) -> int:
        heard = self.since_us if self.heard_us is None else self.heard_us
        return now_us - max(heard, self._now_session.open_us or heard)


def _number(tick_id: TickId) -> int | None:
    """The id as a number; None without one, for more than 18 digits, or a text of others."""
    if isinstance(tick_id, str):
        digits = tick_id.isascii() and tick_id.isdigit() and len(tick_id) <= _LONGEST_NUMBER
        return int(tick_id) if digits else None
    return tick_id if tick_id is not None and abs(tick_id) < 10**_LONGEST_NUMBER else None
