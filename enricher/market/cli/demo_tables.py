"""What `enricher demo` shows, as data and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from enricher.cli.live import NOTHING, milliseconds, number
from enricher.cli.tables import Sheet
from enricher.cli.top import per_second, total
from enricher.cli.watchdog import status_of

Latency = Mapping[str, float | int | None]
"""A `Histogram.summary`: count, p50_ms, p99_ms, p999_ms, max_ms."""


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


class Letter(msgspec.Struct, frozen=True):
    """What is shown of a dead letter."""

    task_name: str
    error: str
    timestamp: str


@dataclass(frozen=True, slots=True)
class Product:
    """One product: its last price, the moving minute and the nearest expiry's last chain."""

    name: str
    price: Price | None = None
    window: Window | None = None
    chain: ChainView | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything one view shows. ``before`` are the figures an interval ago; latencies are summaries."""

    seconds: float
    figures: Mapping[str, Any]
    before: Mapping[str, Any] | None
    publish: Latency
    publish_now: Latency
    event_now: Latency
    products: Sequence[Product] = ()
    bars: Sequence[Mapping[str, Any]] = ()
    dead_letters: int = 0
    letters: Sequence[Letter] = ()

    @property
    def rate_in(self) -> float | None:
        """Messages received per second since the picture before."""
        return per_second(self.figures, self.before, "received")

    @property
    def rate_out(self) -> float | None:
        """Messages stored, cached and published per second since the picture before."""
        return per_second(self.figures, self.before, "processed")


def line(picture: Picture) -> str:
    """The picture in one line, for a log or a pipe."""
    publish, event = picture.publish_now, picture.event_now
    return (
        f"{picture.seconds:5.0f} s  {status_of(picture.figures)}"
        f"  in {number(picture.rate_in)}/s  out {number(picture.rate_out)}/s"
        f"  PUBLISH to publish p50 {milliseconds(publish['p50_ms'])} p99 {milliseconds(publish['p99_ms'])}"
        f"  event to commit p50 {milliseconds(event['p50_ms'])} p99 {milliseconds(event['p99_ms'])}"
        f"  waiting {number(picture.figures['pool']['messages'])}"
        f"  dead letters {number(picture.dead_letters)}"
    )


def tables(picture: Picture) -> Iterator[Sheet]:
    """The picture as tables, the most important first."""
    yield flow_table(picture)
    yield products_table(picture.products)
    yield latency_table(picture)
    if picture.letters:
        yield letters_table(picture)
    if picture.bars:
        yield bars_table(picture.bars)


def flow_table(picture: Picture) -> Sheet:
    """Rates and counts of the worker, in one row."""
    figures = picture.figures
    numbers = ("in/s", "out/s", "received", "processed", "duplicate", "dead", "dropped", "lanes", "waiting")
    made = Sheet(
        *(f"Flow after {picture.seconds:.0f} s", "status", *numbers),
        numbers=numbers,
        drop=("lanes", "dropped", "duplicate", "received"),
    )
    made.add_row(
        status_of(figures),
        number(picture.rate_in),
        number(picture.rate_out),
        *(
            number(total(figures, label))
            for label in ("received", "processed", "duplicate", "dead", "dropped")
        ),
        number(figures["pool"]["lanes"]),
        number(figures["pool"]["messages"]),
    )
    return made


def latency_table(picture: Picture) -> Sheet:
    """Both latencies: of the last interval and of the whole run."""
    numbers = ("p50 now", "p99 now", "p50", "p99", "max", "messages")
    made = Sheet(
        *("Latency", "from - to", *numbers),
        numbers=numbers,
        drop=("messages", "max", "p50", "p99", "p50 now", "p99 now"),
        floor=40,
    )
    rows = (
        ("PUBLISH - enriched message received", picture.publish_now, picture.publish),
        ("event time - committed and visible", picture.event_now, picture.figures["latency"]["event"]),
    )
    for name, now, whole in rows:
        made.add_row(
            name,
            milliseconds(now["p50_ms"]),
            milliseconds(now["p99_ms"]),
            milliseconds(whole["p50_ms"]),
            milliseconds(whole["p99_ms"]),
            milliseconds(whole["max_ms"] if whole["count"] else None),
            number(whole["count"]),
        )
    return made


def products_table(products: Sequence[Product]) -> Sheet:
    """One row per product: price, the moving minute, and the chain of the nearest expiry."""
    numbers = ("price", "1m open", "1m high", "1m low", "1m close", "ticks")
    chain_numbers = ("PCR", "max pain", "ATM", "straddle")
    made = Sheet(
        *("Products", "product", *numbers, *chain_numbers, "expiry"),
        numbers=(*numbers, *chain_numbers),
        # The close of a minute that moves is the price.
        drop=("1m close", "ticks", "1m open", "expiry", "straddle", "1m low", "1m high", "PCR"),
    )
    for product in products:
        window, chain = product.window, product.chain
        made.add_row(
            product.name,
            number(product.price.price if product.price else None, 2),
            *_window_cells(window),
            number(chain.pcr_oi if chain else None, 4),
            number(chain.max_pain_strike if chain else None, 1),
            number(chain.atm_strike if chain else None, 1),
            number(chain.atm_straddle_price if chain else None, 2),
            chain.expiry if chain else NOTHING,
        )
    return made


def _window_cells(window: Window | None) -> tuple[str, ...]:
    if window is None:
        return (NOTHING,) * 5
    prices = (window.open, window.high, window.low, window.close)
    return (*(number(price, 2) for price in prices), number(window.num_ticks))


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
            number(bar["num_ticks"]),
            number(bar["revision"]),
        )
    return made


def letters_table(picture: Picture) -> Sheet:
    """The newest dead letters."""
    made = Sheet(f"Dead letters ({picture.dead_letters:,} in all)", "time", "task", "error")
    for letter in picture.letters:
        made.add_row(letter.timestamp[11:19], letter.task_name, " ".join(letter.error.split())[:110])
    return made
