"""What `enricher demo` shows beside the tables of `enricher top`, as data and as tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.text import Text

from enricher.cli.live import NOTHING, milliseconds, number, time_of_day
from enricher.cli.tables import Sheet, Trend
from enricher.cli.top import Looks, latency_of, status_text, topics_table, trends_table
from enricher.cli.workers import Figures, status_of
from enricher.dead_letters.record import StoredLetter

Latency = Mapping[str, float | int | None]
"""A `Histogram.summary`: count, p50_ms, p99_ms, p999_ms, max_ms, sum_us."""

# Looks in a row that must be short of the wanted rate: the first seconds of a feed are no measure.
_LOOKS = 4
_SHORT = 0.85


class Price(msgspec.Struct, frozen=True):
    """What is shown of `latest:underlying:{product}`."""

    price: float


class Window(msgspec.Struct, frozen=True):
    """What is shown of `ohlc:{product}:1m`."""

    open: float
    high: float
    low: float
    close: float
    num_ticks: int


class ChainView(msgspec.Struct, frozen=True):
    """What is shown of `latest:chain:{product}:{expiry}`; None is unknown."""

    expiry: str
    pcr_oi: float | None
    max_pain_strike: float | None
    atm_strike: float | None
    atm_straddle_price: float | None


@dataclass(frozen=True, slots=True)
class Product:
    """One product: its last prices, the moving minute and the nearest expiry's last chain."""

    name: str
    prices: Sequence[float] = ()
    window: Window | None = None
    chain: ChainView | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything one view shows; ``wanted`` messages a second are asked for, latencies are summaries.

    ``publish_trend`` are the p99 of the last intervals, in milliseconds.
    """

    seconds: float
    wanted: float
    looks: Looks
    publish: Latency
    publish_now: Latency
    publish_trend: Sequence[float | None] = ()
    products: Sequence[Product] = ()
    bars: Sequence[Mapping[str, Any]] = ()
    dead_letters: int = 0
    letters: Sequence[StoredLetter] = ()

    @property
    def figures(self) -> Figures:
        return next(iter(self.looks.now.values()))

    @property
    def rates(self) -> tuple[float | None, float | None]:
        """Messages received, and stored and published, per second between the last two looks."""
        received, done = (self.looks.trends[name] for name in ("received/s", "done/s"))
        return (received[-1], done[-1]) if received else (None, None)

    @property
    def behind(self) -> str:
        """How far the demo is behind its feed, and what to do; empty when it keeps up."""
        trends = self.looks.trends
        received, done = ([v or 0.0 for v in trends[name]][-_LOOKS:] for name in ("received/s", "done/s"))
        waiting = self.figures["pool"]["messages"]
        if len(received) < _LOOKS:
            return ""
        can = max(done)
        if waiting > self.wanted:
            doing = f"behind: {waiting:,} messages wait, this machine does {can:,.0f} a second."
            catches_up = can > 1.2 * max(received)
            return f"{doing} It catches up" if catches_up else f"{doing} Try --rate {round_down(0.8 * can):g}"
        if max(received) < _SHORT * self.wanted:
            short = f"{max(received):,.0f} of {self.wanted:,.0f} messages a second"
            return f"behind: the feed sends {short}. Try --rate {round_down(0.8 * max(received)):g}"
        return ""


def round_down(rate: float) -> float:
    """A rate to try: two digits of it, at least 1."""
    if rate <= 1:
        return 1.0
    unit = 10.0 ** max(0, math.floor(math.log10(rate)) - 1)
    return math.floor(rate / unit) * unit


def line(picture: Picture) -> str:
    """The picture in one line, for a log or a pipe."""
    publish, event = picture.publish_now, latency_of(picture.figures)["event"]
    received, done = picture.rates
    return (
        f"{picture.seconds:5.0f} s  {status_of(picture.figures)}"
        f"  in {number(received)}/s  out {number(done)}/s"
        f"  PUBLISH to publish p50 {milliseconds(publish['p50_ms'])} p99 {milliseconds(publish['p99_ms'])}"
        f"  event to commit p50 {milliseconds(event['p50_ms'])} p99 {milliseconds(event['p99_ms'])}"
        f"  waiting {number(picture.figures['pool']['messages'])}"
        f"  dead letters {number(picture.dead_letters)}"
    ) + (f"  {picture.behind}" if picture.behind else "")


def tables(picture: Picture) -> Iterator[RenderableType]:
    """The picture as a headline and tables, the most important first."""
    yield headline(picture)
    yield trends_table({**picture.looks.trends, "p99 end to end": picture.publish_trend})
    yield products_table(picture.products)
    yield topics_table(picture.looks)
    if picture.letters:
        yield letters_table(picture)
    yield latency_table(picture)
    if picture.bars:
        yield bars_table(picture.bars)


def headline(picture: Picture) -> Text:
    """One line of how it goes; a second one when the worker or the feed cannot keep up."""
    status = status_text(picture.figures)
    head = Text.assemble(("● ", status.style), status, f"  {picture.seconds:.0f} s  {picture.wanted:,g}/s")
    head.append(f"  {number(picture.figures['pool']['messages'])} waiting", style="dim")
    if picture.dead_letters:
        head.append(f"  {number(picture.dead_letters)} dead letters (on purpose)", style="yellow")
    if picture.behind:
        head.append(f"\n{picture.behind}", style="bold yellow")
    return head


def latency_table(picture: Picture) -> Sheet:
    """Both latencies: of the last interval and of the whole run."""
    numbers = ("p50 now", "p99 now", "p50", "p99", "max", "messages")
    made = Sheet(
        *("Latency", "from - to", *numbers),
        numbers=numbers,
        drop=("messages", "max", "p50", "p99", "p50 now", "p99 now"),
        floor=40,
    )
    figures = picture.figures
    rows = (
        ("PUBLISH - enriched message received", picture.publish_now, picture.publish),
        ("event time - committed and visible", latency_of(figures)["event"], figures["latency"]["event"]),
    )
    for name, now, whole in rows:
        highest = whole["max_ms"] if whole["count"] else None
        times = (now["p50_ms"], now["p99_ms"], whole["p50_ms"], whole["p99_ms"], highest)
        made.add_row(name, *map(milliseconds, times), number(whole["count"]))
    return made


def products_table(products: Sequence[Product]) -> Sheet:
    """One row per product: price, the moving minute, the chain of the nearest expiry, the last prices."""
    numbers = ("price", "1m open", "1m high", "1m low", "1m close", "ticks")
    chain_numbers = ("PCR", "max pain", "ATM", "straddle")
    made = Sheet(
        *("Products", "product", *numbers, *chain_numbers, "expiry", "last prices"),
        numbers=(*numbers, *chain_numbers),
        # The close of a minute that moves is the price.
        drop=("1m close", "ticks", "1m open", "expiry", "straddle", "1m low", "1m high", "PCR"),
        floor=12,
    )
    for product in products:
        window, chain = product.window, product.chain
        price = product.prices[-1] if product.prices else None
        style = ""
        if price is not None and window is not None:
            style = "green" if price >= window.open else "red"
        made.add_row(
            product.name,
            Text(number(price, 2), style=style),
            *_cells(window, open=2, high=2, low=2, close=2, num_ticks=0),
            *_cells(chain, pcr_oi=4, max_pain_strike=1, atm_strike=1, atm_straddle_price=2),
            chain.expiry if chain else NOTHING,
            Trend(product.prices, style, spread=True),
        )
    return made


def _cells(source: object | None, **decimals: int) -> Iterator[str]:
    """Attributes of ``source`` with so many decimals each."""
    return (number(getattr(source, name, None), places) for name, places in decimals.items())


def bars_table(bars: Sequence[Mapping[str, Any]]) -> Sheet:
    """The last closed one-minute bars, as they are stored."""
    numbers = ("open", "high", "low", "close", "ticks", "revision")
    made = Sheet(
        *("Closed bars (1 minute)", "start", "product", *numbers), numbers=numbers, drop=numbers[::-1]
    )
    for bar in bars:
        made.add_row(
            f"{bar['start']:%H:%M}",
            bar["product"],
            *(number(bar[name], 2) for name in ("open", "high", "low", "close")),
            *(number(bar[name]) for name in ("num_ticks", "revision")),
        )
    return made


def letters_table(picture: Picture) -> Sheet:
    title = f"Dead letters ({picture.dead_letters:,} in all)"
    made = Sheet(title, "time", "topic", "error")
    for letter in picture.letters:
        when = time_of_day(letter.at_us) if letter.at_us else NOTHING
        made.add_row(when, letter.topic or NOTHING, " ".join(letter.error.split())[:110])
    return made
