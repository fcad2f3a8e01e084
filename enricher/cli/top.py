"""``enricher top``: what the running workers are doing, from the figures they keep in Redis."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click
from redis.asyncio import Redis
from rich.console import RenderableType
from rich.text import Text

from enricher.cli.live import NOTHING, console, milliseconds, number, show, time_of_day, wait
from enricher.cli.main import FAILED, OK
from enricher.cli.options import SettingsOptions, duration_option, settings_options
from enricher.cli.signals import stop_on_signal
from enricher.cli.tables import Sheet, Stack, Trend
from enricher.cli.workers import Figures, every_pattern, read_figures, stats_client, status_of
from enricher.clock import wall_clock
from enricher.config import Settings, redact
from enricher.errors import SinkUnavailable

TOPIC_COUNTS = ("received", "processed", "duplicate", "dead", "dropped", "conflated", "retried")
BAD_COUNTS = ("dead", "dropped", "retried")

RATES = {"received/s": "received", "done/s": "processed"}
P99 = "p99 in the worker"

LOOKS = 60
"""How many looks the trends remember."""

COLORS = {
    "ready": "green",
    "degraded": "yellow",
    "starting": "cyan",
    "restoring": "cyan",
    "stopping": "magenta",
    "stalled": "red",
    "failed": "red",
}
_PATIENCE = 2.0


@click.command(
    epilog="""\b
Examples:
  enricher top                     all workers, once a second, until Ctrl-C
  enricher top --once              once, with the rates of the last second
  enricher top --interval 5s > top.txt
"""
)
@click.option("--once", is_flag=True, help="Print the figures once and end.")
@duration_option("--interval", default="1s", help="Time between two views.")
@settings_options
def command(options: SettingsOptions, once: bool, interval: float) -> None:
    """Watch the running workers.

    Shows rates and latency, servers that are unreachable, what stands still, how long each source has been
    silent, counts per topic, and messages in flight. Workers keep these figures in Redis (redis.url).
    """
    code = asyncio.run(_watch(options.load(), once, interval))
    click.get_current_context().exit(code)


async def _watch(settings: Settings, once: bool, interval: float) -> int:
    out = console()
    with stop_on_signal() as stop:
        async with stats_client(settings, _PATIENCE) as client:
            watcher = Watcher(client, settings)
            if not once:
                await show(out, watcher.view, interval, stop, screen=True)
                return OK
            # A rate needs two looks, one publication of the figures apart.
            try:
                await watcher.look()
                if watcher.looks.now and not await wait(stop, settings.stats.interval * 1.2):
                    await watcher.look()
            except SinkUnavailable as error:
                click.echo(f"Error: {error}", err=True)
                return FAILED
            out.print(watcher.picture())
    return OK


class Watcher:
    """Looks at the workers again and again and remembers the look before."""

    def __init__(self, client: Redis, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.looks = Looks()

    async def look(self) -> None:
        """Read the figures once. Raises SinkUnavailable."""
        self.looks.add(await read_figures(self._client, self._settings, every_pattern(self._settings)))

    async def view(self) -> RenderableType:
        """Look, and render; an outage is part of the picture."""
        try:
            await self.look()
        except SinkUnavailable as error:
            return Stack([Text(str(error), style="red"), *self._tables()], by_height=True)
        return self.picture(by_height=True)

    def picture(self, *, by_height: bool = False) -> RenderableType:
        """The last look as tables; with ``by_height`` no higher than the terminal."""
        if not self.looks.now:
            where = redact(self._settings.redis.url)
            return Text(f"No worker keeps figures in {where}; start one with: enricher run")
        return Stack(self._tables(), by_height=by_height)

    def _tables(self) -> list[Sheet]:
        return list(pictures(self.looks, wall_clock())) if self.looks.now else []


class Looks:
    """What was seen of the workers: how they are ``now``, at the look ``before``, and for a minute.

    ``trends`` are over all workers: the sum of their rates, and the worst of their latencies.
    """

    def __init__(self, now: Mapping[str, Figures] = MappingProxyType({})) -> None:
        self.now = dict(now)
        self.before: dict[str, Figures] = {}
        self.trends: dict[str, deque[float | None]] = {name: deque(maxlen=LOOKS) for name in (*RATES, P99)}

    def add(self, found: Iterable[Figures]) -> None:
        latest = {f"{f['service']}:{f['instance']}": f for f in found}
        # Looked twice at one publication: the pair that gives the rate stays as it was.
        newer = {k for k, f in latest.items() if k in self.now and self.now[k]["now_us"] != f["now_us"]}
        self.before |= {key: self.now[key] for key in newer}
        self.now = latest
        if newer:
            for name, label in RATES.items():
                rates = [per_second(f, self.before.get(key), label) for key, f in latest.items()]
                self.trends[name].append(sum(rate for rate in rates if rate is not None))
            p99s = [latency_of(figures)["commit"]["p99_ms"] for figures in latest.values()]
            self.trends[P99].append(max((p99 for p99 in p99s if p99 is not None), default=None))


def per_second(now: Figures, before: Figures | None, label: str, topic: str | None = None) -> float | None:
    """How fast a counter grew between two looks, over one topic or all; None without a look before."""
    if before is None or now["started_us"] != before["started_us"]:
        return None
    seconds = float(now["now_us"] - before["now_us"]) / 1e6
    if seconds <= 0:
        return None
    return (total(now, label, topic) - total(before, label, topic)) / seconds


def total(figures: Figures, label: str, topic: str | None = None) -> int:
    """One counter, over one topic or all."""
    topics: Mapping[str, Mapping[str, int]] = figures.get("topics", {})
    return sum(counts.get(label, 0) for name, counts in topics.items() if topic in (None, name))


def latency_of(figures: Figures) -> Mapping[str, Any]:
    """Latencies of the last interval alone, so that a burst of an hour ago does not look like now."""
    return {**figures["latency"], **figures.get("recent", {})}


def status_text(figures: Figures) -> Text:
    return Text(status_of(figures), style=COLORS.get(figures["status"], "red"))


def pictures(looks: Looks, at_us: int) -> Iterator[Sheet]:
    """Tables of the workers, their topics, their sources and what they are busy with."""
    yield workers_table(looks, at_us)
    yield topics_table(looks)
    yield sources_table(looks.now.values())
    if any(len(values) > 1 for values in looks.trends.values()):
        yield trends_table(looks.trends)
    flights = in_flight_table(looks.now.values(), at_us)
    if flights.rows:
        yield flights


def trends_table(trends: Mapping[str, Sequence[float | None]]) -> Sheet:
    """One row per rate or latency: now, the highest of the last looks, and all of them as bars."""
    made = Sheet(*("Trends", "", "now", "highest", "so far"), numbers=("now", "highest"))
    for name, values in trends.items():
        shown, style = (number, "cyan") if name in RATES else (milliseconds, "magenta")
        highest = max((value for value in values if value is not None), default=None)
        made.add_row(name, shown(values[-1] if values else None), shown(highest), Trend(values, style))
    return made


def workers_table(looks: Looks, at_us: int) -> Sheet:
    """One row per worker: status, rates per second, latency, level of the pool."""
    now, before = looks.now, looks.before
    numbers = ("in/s", "done/s", "p50", "p99", "event p99", "waiting", "lanes", "lag", "seen")
    made = Sheet(
        "Workers",
        *("service", "instance", "status", "since", *numbers, "trouble"),
        numbers=numbers,
        drop=(
            # Not needed while there is no trouble.
            *(() if any(troubles(figures) for figures in now.values()) else ("trouble",)),
            *("lanes", "lag", "since", "p50", "seen", "waiting", "service", "event p99", "p99"),
            *("done/s", "in/s"),
        ),
        wraps=("trouble",),
    )
    for key, figures in now.items():
        pool, latency = figures["pool"], latency_of(figures)
        made.add_row(
            figures["service"],
            figures["instance"],
            status_text(figures),
            time_of_day(figures["started_us"]),
            number(per_second(figures, before.get(key), "received")),
            number(per_second(figures, before.get(key), "processed")),
            milliseconds(latency["commit"]["p50_ms"]),
            milliseconds(latency["commit"]["p99_ms"]),
            milliseconds(latency["event"]["p99_ms"]),
            number(pool["messages"]),
            number(pool["lanes"]),
            milliseconds(figures["loop_lag_ms"]),
            number(max(0.0, (at_us - figures["now_us"]) / 1e6), 1, " s"),
            troubles(figures) or NOTHING,
        )
    return made


def troubles(figures: Figures) -> str:
    """What is unreachable, what is wrong with topics, and what stands still."""
    both = {**figures["outages"], **figures.get("troubles", {})}
    return "; ".join([*(f"{name}: {why}" for name, why in both.items()), *figures.get("stalled", ())])


def topics_table(looks: Looks) -> Sheet:
    """One row per worker and topic: rates, counts, and how long the handler takes."""
    now, before = looks.now, looks.before
    numbers = ("in/s", "done/s", *TOPIC_COUNTS, "handler p99")
    instance = ("instance",) if len(now) > 1 else ()
    made = Sheet(
        *("Topics", *instance, "topic", *numbers),
        numbers=numbers,
        drop=("retried", "conflated", "handler p99", "dropped", "duplicate", *numbers[::-1]),
    )
    for key, figures in now.items():
        for topic, counts in figures["topics"].items():
            made.add_row(
                *(figures[name] for name in instance),
                topic,
                number(per_second(figures, before.get(key), "received", topic)),
                number(per_second(figures, before.get(key), "processed", topic)),
                *(_count(label, counts.get(label, 0)) for label in TOPIC_COUNTS),
                milliseconds(counts["handling"]["p99_ms"]),
            )
    return made


def _count(label: str, count: int) -> Text:
    return Text(number(count), style="yellow" if count and label in BAD_COUNTS else "")


def sources_table(now: Iterable[Figures]) -> Sheet:
    """One row per worker and source: connected or not, and for how long nothing was heard."""
    numbers = ("silent", "reconnects", "gaps", "lost")
    made = Sheet(
        *("Sources", "instance", "source", "state", *numbers, "last message"),
        numbers=numbers,
        drop=("lost", "gaps", "reconnects", "silent"),
        wraps=("last message",),
    )
    for figures in now:
        for name, source in figures["sources"].items():
            ready = bool(source.get("ready"))
            channels = source.get("channels", {})
            made.add_row(
                figures["instance"],
                name,
                Text("connected" if ready else "disconnected", style="green" if ready else "yellow"),
                number(source.get("silent_s"), 1, " s"),
                number(source.get("reconnects")),
                number(source.get("gaps")),
                number(source.get("entries_lost")),
                ", ".join(f"{channel} {seconds:g} s ago" for channel, seconds in channels.items()) or NOTHING,
            )
    return made


def in_flight_table(now: Iterable[Figures], at_us: int) -> Sheet:
    """One row per message that a handler is busy with, the oldest first."""
    numbers = ("attempt", "for")
    made = Sheet(
        *("In flight", "instance", "topic", "key", "stage", "since", *numbers),
        numbers=numbers,
        drop=("since", "attempt", "instance"),
    )
    for figures in now:
        for row in figures["in_flight"]:
            made.add_row(
                figures["instance"],
                row["topic"],
                row["key"] or NOTHING,
                row["stage"],
                time_of_day(row["since_us"]),
                number(row["attempt"]),
                number(max(0.0, (at_us - row["since_us"]) / 1e6), 1, " s"),
            )
    return made
