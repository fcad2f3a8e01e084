"""The watch over the first messages of each topic: are their times those of another zone than is set?"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from enricher.clock import Zones
from enricher.errors import BadMessage, Held
from enricher.log import log
from enricher.market.quality.zone_offsets import QUARTER, Run, clock_text, lengthened, zones_at
from enricher.messages.models import Event, FarAhead, peek_product

Feed = tuple[str, str]
"""A topic and a product."""

MOST: Final = 100_000
"""Products of a topic that are remembered."""

HOLD_S: Final = 60.0
"""Seconds that a message which another zone would explain is held before it is a dead letter."""


class ZoneWatch:
    """Judges the times without an offset of each product of a topic until one of them is near the clock.

    ``settled`` are those that need no more of it, {topic: products}. ``found`` is told what is wrong with
    topics, {topic: a sentence}.
    """

    def __init__(self, zones: Zones, max_future_us: int, troubles: dict[str, str]) -> None:
        self.settled: defaultdict[str, set[str]] = defaultdict(set)
        self._found = troubles
        self._zones = zones
        self._max_future_us = max_future_us
        self._ahead: dict[Feed, Run] = {}
        self._behind: dict[Feed, Run | None] = {}
        self._about: dict[str, str] = {}
        self._right = False  # whether the default zone is that of any product
        self._said: set[tuple[int, str]] = set()
        self._known: dict[tuple[int, str], list[str]] = {}

    def judge(self, topic: str, event: Event, now_us: int) -> None:
        """Look at a message that was read, of a product that is not settled."""
        feed = topic, event.product
        ahead = event.event_us - now_us
        if not event.naive or ahead > -QUARTER // 2:
            self._right = self._right or (event.naive and event.product not in self._zones.exceptions)
            self._settle(feed)
            return
        before = self._behind.get(feed)
        if feed in self._behind and before is None:
            return
        if len(self._behind) >= MOST:
            self._behind.clear()
        run = self._behind[feed] = lengthened(before, ahead, now_us)
        if run is None:
            # Old messages say nothing of zones; some that lie ahead of the clock may still come.
            if feed not in self._ahead:
                self._withdraw(feed)
        elif run.certain and run.delayed:
            self._say_delayed(feed, run, now_us)
            self._settle(feed)
        elif run.certain:
            self._say(feed, run, now_us)

    def refused(self, topic: str, body: bytes, why: BadMessage, now_us: int) -> BadMessage | Held:
        """What is to be raised of a bad message: `Held` where it is one in another zone than is set."""
        far = why.__cause__
        if not isinstance(far, FarAhead) or not far.naive:
            return why
        product = peek_product(body) or ""
        feed = topic, product
        before = self._ahead.get(feed)
        run = lengthened(before, far.ahead_us, now_us)
        if run is not None:
            if len(self._ahead) >= MOST:
                self._ahead.clear()
            self._ahead[feed] = run
        if product in self.settled[topic]:
            # The zone's clock may have been changed; whatever comes near ours now settles it again.
            if run is None:
                self._ahead.pop(feed, None)
            elif run.certain:
                self.settled[topic].discard(product)
            return why
        if run is not None and run.certain:
            self._say(feed, run, now_us)
        elif before is not None and before.certain and self._let_in(before, far.ahead_us):
            run = before
        if run is None:
            return why
        expected = f"{why.expected}, as with {self._setting(product, run, now_us)}"
        return Held(BadMessage(why.path, expected, why.found), HOLD_S)

    def _settle(self, feed: Feed) -> None:
        topic, product = feed
        if len(self.settled[topic]) >= MOST:
            self.settled[topic].clear()
        self.settled[topic].add(product)
        self._ahead.pop(feed, None)
        self._behind.pop(feed, None)
        self._withdraw(feed)

    def _withdraw(self, feed: Feed) -> None:
        topic, product = feed
        if self._about.get(topic) == product:
            del self._about[topic], self._found[topic]

    def _let_in(self, run: Run, ahead_us: int) -> bool:
        """Whether the zone of ``run`` would let in what is not of the run: some are older than others."""
        return ahead_us - run.offset_us <= self._max_future_us

    def _say(self, feed: Feed, run: Run, now_us: int) -> None:
        topic, product = feed
        zone = self._zones.of(product)
        side = "ahead of the clock" if run.offset_us > 0 else "behind the clock"
        mend = self._setting(product, run, now_us)
        off = clock_text(run.offset_us)
        if topic not in self._about:
            self._about[topic] = product
            self._found[topic] = f"times without an offset, read in {zone}, lie {off} {side}: set {mend}"
        if (run.offset_us, mend) in self._said:
            return
        self._said.add((run.offset_us, mend))
        then = "then restart"
        if run.offset_us > 0:
            then = (
                f"then restart; such messages are held for {HOLD_S:g} s (of a channel until a stop at most), "
                "then they are dead letters: at last run `enricher dlq retry --error feed.timezone`"
            )
        log.error(
            "feed_in_another_zone",
            topic=topic,
            product=product,
            off=off,
            side=side,
            read_in=str(zone),
            setting=mend,
            zones=self._candidates(zone, run, now_us),
            then=then,
        )

    def _say_delayed(self, feed: Feed, run: Run, now_us: int) -> None:
        topic, product = feed
        zone = str(self._zones.of(product))
        if (run.offset_us, zone) in self._said:
            return
        self._said.add((run.offset_us, zone))
        then = "nothing"
        if self._candidates(self._zones.of(product), run, now_us):
            then += f", unless these are times of another zone: {self._setting(product, run, now_us)}"
        off = clock_text(run.offset_us)
        log.warning("feed_is_delayed", topic=topic, product=product, off=off, read_in=zone, then=then)

    def _setting(self, product: str, run: Run, now_us: int) -> str:
        zone = self._zones.of(product)
        candidates = self._candidates(zone, run, now_us)
        name = f'"{candidates[0]}"' if candidates else f"a zone {clock_text(run.offset_us)} from {zone}"
        if product in self._zones.exceptions or self._right:
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
