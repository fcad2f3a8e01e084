"""The watch over the first messages of each topic: are their times those of another zone than is set?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from enricher.errors import BadMessage, Held
from enricher.log import log
from enricher.market.clock import Zones
from enricher.market.models import Event, FarAhead
from enricher.market.offsets import QUARTER, Run, clock_text, lengthened, zones_at

HOLD_S: Final = 60.0
"""Seconds that a message which another zone would explain is held before it is a dead letter."""


class ZoneWatch:
    """Judges the times without an offset of each topic until one of them is near the clock.

    ``found`` is told what is wrong with topics, {topic: a sentence}.
    """

    def __init__(self, zones: Zones, max_future_us: int, found: dict[str, str]) -> None:
        self._found = found
        self._zones = zones
        self._max_future_us = max_future_us
        self._ahead: dict[str, Run] = {}
        self._behind: dict[str, Run | None] = {}
        self._said: set[tuple[int, str]] = set()
        self._known: dict[tuple[int, str], list[str]] = {}

    def settled_by(self, topic: str, event: Event, now_us: int) -> bool:
        """Whether a message that was read is where it belongs, so that its topic has no such trouble."""
        ahead = event.event_us - now_us
        if not event.naive or ahead > -QUARTER // 2:
            for kept in (self._found, self._ahead, self._behind):
                kept.pop(topic, None)
            return True
        before = self._behind.get(topic)
        if topic in self._behind and before is None:
            return False
        run = self._behind[topic] = lengthened(before, ahead, now_us)
        if run is not None and run.certain:
            self._say(topic, event.product, run, now_us)
        elif run is None and topic not in self._ahead:
            # Old messages say nothing of zones; some that lie ahead of the clock may still come.
            self._found.pop(topic, None)
        return False

    def refused(
        self, topic: str, product: str, why: BadMessage, far: FarAhead, now_us: int
    ) -> BadMessage | Held:
        """What is to be raised of a message too far ahead of the clock: `Held` where a zone explains it."""
        before = self._ahead.get(topic)
        run = lengthened(before, far.ahead_us, now_us) if far.naive else None
        if run is not None:
            self._ahead[topic] = run
            if run.certain:
                self._say(topic, product, run, now_us)
        elif before is not None and before.certain and far.naive and self._let_in(before, far.ahead_us):
            run = before
        if run is None:
            return why
        expected = f"{why.expected}, as with {self._setting(product, run, now_us)}"
        return Held(BadMessage(why.path, expected, why.found), HOLD_S)

    def _let_in(self, run: Run, ahead_us: int) -> bool:
        """Whether the zone of ``run`` would let in what is not of the run: some are older than others."""
        return ahead_us - run.offset_us <= self._max_future_us

    def _say(self, topic: str, product: str, run: Run, now_us: int) -> None:
        if topic in self._found:
            return
        zone = self._zones.of(product)
        side = "ahead of the clock" if run.offset_us > 0 else "behind the clock"
        mend = self._setting(product, run, now_us)
        off = clock_text(run.offset_us)
        self._found[topic] = f"times without an offset, read in {zone}, lie {off} {side}: set {mend}"
        if (run.offset_us, str(zone)) in self._said:
            return
        self._said.add((run.offset_us, str(zone)))
        then = "then restart"
        if run.offset_us > 0:
            then = (
                f"then restart; such messages are held for {HOLD_S:g} s (of a channel until a stop at most), "
                "then they are dead letters: at last run `enricher dlq reprocess --error feed.timezone`"
            )
        log.error(
            "feed_in_another_zone",
            topic=topic,
            off=off,
            side=side,
            read_in=str(zone),
            setting=mend,
            zones=self._candidates(zone, run, now_us),
            then=then,
        )

    def _setting(self, product: str, run: Run, now_us: int) -> str:
        zone = self._zones.of(product)
        found = self._candidates(zone, run, now_us)
        name = f'"{found[0]}"' if found else f"a zone {clock_text(run.offset_us)} from {zone}"
        if product in self._zones.exceptions:
            return f"market.timezones.{product} = {name}"
        return f"feed.timezone = {name}"

    def _candidates(self, zone: ZoneInfo, run: Run, now_us: int) -> list[str]:
        key = (run.offset_us, zone.key)
        if key not in self._known:
            self._known[key] = zones_at(run.offset_us, zone, now_us, host_zone())
        return self._known[key]


def host_zone(
    environ: Mapping[str, str] = os.environ, link: Path = Path("/etc/localtime")
) -> tuple[str, ...]:
    """The name of this host's own zone, where it tells it: from TZ, else from where the link leads."""
    name = environ.get("TZ", "").lstrip(":")
    if not name:
        _, _, name = str(link.resolve()).partition("/zoneinfo/")
    return (name,) if name else ()

