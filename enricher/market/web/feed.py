"""The feed: what came of every channel, and what is doubtful about the ticks of every product."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from enricher.clock import to_date
from enricher.feed_gaps import GAPS
from enricher.market.settings import MarketChannels
from enricher.market.web.rates import Rates
from enricher.market.web.reading import Reading
from enricher.web.views import Asked

NAMES = ("underlying", "option_quote", "option_chain")
"""The channels by their names in the settings."""

PAGE = 50
_GAPS_SHOWN = 20


class OfFeed(msgspec.Struct, frozen=True):
    """Products whose name has ``q`` in it, after the one named ``after``."""

    q: str = ""
    after: str = ""


class Channel(msgspec.Struct, frozen=True):
    """What came over a channel since the start of the process.

    ``last`` is its last message, None before the first; ``line`` are messages a second of the last minutes.
    ``doubtful`` came late, or from the future. ``gaps`` are times in which nobody listened.
    """

    name: str
    kind: str
    last: datetime | None
    silent: float | None
    rate: float | None
    line: list[float]
    received: int
    duplicates: int
    rejected: int
    doubtful: int
    dropped: int
    gaps: int
    trouble: str | None


class ProductFeed(msgspec.Struct, frozen=True):
    """What is known of a product's ticks; ``counts`` are findings by their kind."""

    product: str
    status: str
    last: datetime | None
    delay: float | None
    ticks: int
    missing: int
    counts: dict[str, int]


class Gap(msgspec.Struct, frozen=True):
    """A time in which messages of a channel may have been missed."""

    channel: str
    since: datetime
    until: datetime
    seconds: float
    reason: str


class Feed(msgspec.Struct, frozen=True):
    """The channels, one page of products, and the last gaps."""

    channels: list[Channel]
    products: list[ProductFeed]
    next: str
    gaps: list[Gap]


class FeedViews:
    """The view of the feed."""

    def __init__(
        self, reading: Reading, channels: MarketChannels, rates: Rates, troubles: Mapping[str, str]
    ) -> None:
        self._reading = reading
        self._channels = {getattr(channels, name): name for name in NAMES}
        self._rates = rates
        self._troubles = troubles

    async def feed(self, asked: Asked[OfFeed]) -> Feed:
        """How the feed is."""
        reading, wanted = self._reading, asked.parameters
        text = wanted.q.casefold()
        names = [n for n in await reading.names() if text in n.casefold() and n > wanted.after]
        page = names[:PAGE]
        watched = await reading.held.get(("watched", *page), 1, lambda: self._products(page))
        gaps = await reading.held.get("gaps", 5, self._gaps)
        return Feed(self._of_channels(), watched, page[-1] if len(names) > PAGE else "", gaps)

    def _of_channels(self) -> list[Channel]:
        host = self._reading.host
        silences: dict[str, float] = {}
        for source in host.health()["sources"].values():
            silences |= source.get("channels") or {}
        now_us = host.clock()
        found = []
        for channel, kind in self._channels.items():
            counts, line = host.stats.topic(channel).counts, self._rates.of(channel)
            silent = silences.get(channel)
            heard = silent is not None and counts["received"]
            found.append(
                Channel(
                    name=channel,
                    kind=kind.replace("_", " "),
                    last=to_date(now_us - round((silent or 0) * 1e6)) if heard else None,
                    silent=silent,
                    rate=line[-1] if line else None,
                    line=line,
                    received=counts["received"],
                    duplicates=counts["duplicate"],
                    rejected=counts["dead"],
                    doubtful=counts["late"] + counts["future"],
                    dropped=counts["dropped"] + counts["conflated"] + counts["lost"],
                    gaps=counts["gaps"],
                    trouble=self._troubles.get(channel),
                )
            )
        return found

    async def _products(self, names: list[str]) -> list[ProductFeed]:
        if not names:
            return []
        values = await self._reading.cached(*(f"feed:health:{name}" for name in names))
        return [_of_product(name, value) for name, value in zip(names, values, strict=True) if value]

    async def _gaps(self) -> list[Gap]:
        found: list[dict[str, Any]] = []
        for channel in self._channels:
            # By ``_id``, which begins with the channel and the time.
            within = {"_id": {"$gte": f"{channel}:", "$lt": f"{channel};"}}
            found += await self._reading.find(GAPS, within, sort=[("_id", -1)], limit=_GAPS_SHOWN)
        found.sort(key=lambda gap: gap["from"], reverse=True)
        return [
            Gap(
                channel=gap["channel"],
                since=gap["from"],
                until=gap["to"],
                seconds=(gap["to"] - gap["from"]).total_seconds(),
                reason=gap["reason"],
            )
            for gap in found[:_GAPS_SHOWN]
        ]


def _of_product(product: str, shown: Mapping[str, Any]) -> ProductFeed:
    last = shown.get("last_event")
    return ProductFeed(
        product=product,
        status=shown["status"],
        last=None if last is None else datetime.fromisoformat(last),
        delay=shown.get("delay"),
        ticks=shown["ticks"],
        missing=shown["missing"],
        counts=shown["counts"],
    )
