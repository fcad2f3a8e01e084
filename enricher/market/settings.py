"""The ``market`` section: channels, windows, lifetimes and policy of the three market routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from enricher.analytics.price_analysis import Extra
from enricher.clock import MINUTE, SECOND
from enricher.config import Count, PositiveSeconds, Seconds, Section, Text, WholeSeconds, Zone
from enricher.config.types import did_you_mean
from enricher.market.products import SHIPPED, ProductSettings
from enricher.market.quality.feed_quality import WatchSettings

_DAY_MINUTES = 1440

Minutes = Annotated[int, Meta(ge=1, le=_DAY_MINUTES)]
Overload = Annotated[
    Literal["drop_oldest", "conflate", "block", "spill"],
    Meta(extra={"refused": {"block": "'block' needs a source that can wait, and Redis pub/sub cannot"}}),
]


TASKS: Mapping[str, str] = MappingProxyType(
    {
        "underlying": "process_underlying_tick",
        "option_quote": "process_option_quote",
        "option_chain": "process_option_chain",
    }
)
"""What the routes of the channels are called."""


class MarketChannels(Section, frozen=True, kw_only=True):
    """The channels the market routes listen to; ``patterns`` are further PSUBSCRIBE patterns."""

    underlying: Text = "market:underlying"
    option_quote: Text = "market:option_quote"
    option_chain: Text = "market:option_chain"
    patterns: tuple[Text, ...] = ()

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.option_quote == self.underlying:
            yield "option_quote", "a channel of its own, not that of market.channels.underlying"
        if self.option_chain in {self.underlying, self.option_quote}:
            yield "option_chain", "a channel of its own, not that of another route"


class MarketSettings(Section, frozen=True, kw_only=True):
    """What the market routes are told.

    ``windows`` in minutes; ``lateness``, ``idle_close``, ``quote_window``, ``expiry_window``,
    ``buildup_min_age``, ``claim_ttl`` and ``cache_ttl`` in seconds; ``half_tick`` in units of price,
    None for half the tick of the product's contract. ``timezones`` {product: zone} are exceptions to
    `FeedSettings.timezone`. ``weight``, ``priority`` and ``max_concurrency`` (slots, 0 for no limit) are the
    share of the pool.

    ``analytics`` switches everything on that is computed from prices of options, with ``products`` for the
    terms of their contracts and ``names`` {name: entry} for further names of them, ``price_max_age`` in
    seconds, ``vendor_iv`` the unit of volatilities as sent. ``extras`` are computed and published besides,
    see docs/market.md.
    ``history_days`` is the look-back of percentiles, which take ``history_least`` days. A surface is stored
    every ``surface_interval`` and fitted every ``svi_interval`` seconds, 0 for never. ``volume`` says what a
    tick's volume is: the size of a trade, or that of the session so far. ``unknown`` is what stands for an
    unknown number in the fields of the old worker, see `enricher.market.zeros`. ``folds`` are further numbers
    per product: "session", or ``module:Class`` of a program's own, see docs/folds.md.
    """

    renamed: ClassVar[Mapping[str, str]] = {"cap": "max_concurrency"}

    enabled: bool = True
    channels: MarketChannels = MarketChannels()
    windows: Annotated[tuple[Minutes, ...], Meta(min_length=1)] = (1, 5, 15)
    lateness: Seconds = 2.0
    idle_close: PositiveSeconds = 30.0
    claim_ttl: WholeSeconds = 3600
    cache_ttl: WholeSeconds = 300
    quote_window: PositiveSeconds = 300.0
    expiry_window: PositiveSeconds = 60.0
    overload: Overload = "drop_oldest"
    buildup_min_age: Seconds = 180.0
    half_tick: Annotated[float, Meta(ge=0)] | None = None
    timezones: Mapping[str, Zone] = msgspec.field(default_factory=dict)
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    priority: Annotated[int, Meta(ge=0, le=1000)] = 0
    max_concurrency: Annotated[int, Meta(ge=0)] = 0
    volume: Literal["trade", "cumulative"] = "trade"
    unknown: Literal["null", "zero"] = "null"
    analytics: bool = True
    price_max_age: PositiveSeconds = 300.0
    vendor_iv: Literal["auto", "percent", "decimal"] = "auto"
    max_pain_curve: bool = False
    extras: tuple[Extra, ...] = ()
    history_days: Count = 365
    history_least: Count = 20
    surface_interval: Seconds = 60.0
    svi_interval: Seconds = 30.0
    folds: tuple[Text, ...] = ()
    watch: WatchSettings = WatchSettings()
    products: Mapping[str, ProductSettings] = msgspec.field(default_factory=dict)
    names: Mapping[str, Text] = msgspec.field(default_factory=dict)

    @property
    def retention_us(self) -> int:
        """Ticks older than the newest by more than so many microseconds fold into nothing."""
        return max(max(self.windows) * MINUTE, int(self.lateness * SECOND))

    @property
    def reload_us(self) -> int:
        """How many microseconds before the newest tick those of a bar that can still change may lie."""
        longest = max(self.windows)
        # A bar of a day is an hour longer where clocks are set back.
        return self.retention_us + (longest + (60 if longest >= _DAY_MINUTES else 0)) * MINUTE

    def validate(self) -> Iterable[tuple[str, str]]:
        if len(set(self.windows)) < len(self.windows):
            yield "windows", "every window once"
        for entry in self.names.values():
            if entry not in SHIPPED and entry not in self.products:
                known = f"names of products or of shipped entries, and {entry!r} is none"
                yield "names", known + did_you_mean(entry, SHIPPED)

    def dead_letter_topics(self, key: str) -> Mapping[str, str]:
        return {task: getattr(self.channels, kind) for kind, task in TASKS.items()}
