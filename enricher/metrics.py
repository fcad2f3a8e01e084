"""Figures for whoever scrapes them: what a system adds, and what every engine has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from enricher.engine.router import covers
from enricher.engine.stats import Histogram

if TYPE_CHECKING:
    from enricher.engine.service import Engine

Kind = Literal["counter", "gauge", "histogram"]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its ``samples``: labels, and a number or a `Histogram`.

    The ``name`` of a counter is without ``_total``. Values of labels are bounded: names of routes, queues,
    classes, and nothing that a message says.
    """

    name: str
    help: str
    kind: Kind
    samples: Sequence[tuple[Mapping[str, str], float | Histogram]]


# From 256 us to 34 s, a bucket for each power of two: quantiles of a dashboard need no finer ones.
_FIRST, _LAST = 8, 35


def buckets(histogram: Histogram) -> Iterator[tuple[float, int]]:
    """The upper edge of each bucket in seconds, and how many durations are not longer."""
    seen = at = 0
    for power in range(_FIRST, _LAST + 1):
        # Four buckets a power of two; the one that ends at 2^power has the index 4 * (power - 1).
        end = 4 * (power - 1)
        seen += sum(histogram.counts[at:end])
        at = end
        yield 2**power / 1e6, seen


# What becomes of messages, always there: of a counter that begins at 1, Prometheus sees no increase.
_STATUSES = (
    *("received", "processed", "duplicate", "dead", "dropped", "conflated", "retried"),
    *("lost", "handed_back"),
)


def of_engine(engine: Engine) -> Iterator[Metric]:
    """What every engine has."""
    yield from _of_messages(engine)
    stats, health = engine.stats, engine.health()
    pool = health["pool"]
    yield single("enricher_ready", "1 while it is ready.", engine.ready)
    yield single("enricher_pool_messages", "Messages between receipt and commit.", pool["messages"])
    yield single("enricher_pool_bytes", "Bytes of these messages.", pool["bytes"])
    yield single("enricher_pool_lanes", "Keys that have a lane.", pool["lanes"])
    yield single("enricher_in_flight", "Handlers that run.", len(stats.in_flight))
    yield single("enricher_loop_lag_seconds", "How late the event loop is.", stats.loop_lag_us / 1e6)
    yield single("enricher_stalled", "Things that wait and do not move.", len(health["stalled"]))
    for name, text in _FAILURES.items():
        yield single(f"enricher_{name}", text, stats.counters[name], "counter")
    names = [sink.name for sink in engine.sinks]
    yield Metric(
        name="enricher_outage",
        help="1 while a sink is unreachable.",
        kind="gauge",
        samples=[({"sink": name}, float(name in health["outages"])) for name in names],
    )
    yield Metric(
        name="enricher_sink_failures",
        help="Tries at an unreachable sink that failed.",
        kind="counter",
        samples=[({"sink": name}, float(stats.counters[f"{name}_failures"])) for name in names],
    )
    yield from _of_sources(health["sources"])
    yield from _of_channels(engine, health["sources"])


_FAILURES = {
    "refused_effects": "Effects of no message, such as progress, that a sink refused.",
    "state_failures": "Tries at reading states back that failed.",
}


def _of_messages(engine: Engine) -> Iterator[Metric]:
    """Counters and histograms, by route; topics without a route are ``other``."""
    stats, routes = engine.stats, {route.topic for route in engine.router.routes}
    counts = Counter({(topic, status): 0 for topic in (*routes, "other") for status in _STATUSES})
    for topic, each in stats.topics.items():
        for status, number in each.counts.items():
            if status != "gaps":  # no message's
                counts[topic if topic in routes else "other", status] += number
    yield Metric(
        name="enricher_messages",
        help="Messages of a route by what became of them; received counts them all.",
        kind="counter",
        samples=[({"route": topic, "status": status}, n) for (topic, status), n in sorted(counts.items())],
    )
    dead = Counter[tuple[str, str]]()
    for (topic, stage), number in stats.dead.items():
        dead[topic if topic in routes else "other", stage] += number
    yield Metric(
        name="enricher_dead_letters",
        help="Messages that were set aside, by the stage at which they failed.",
        kind="counter",
        samples=[({"route": topic, "stage": stage}, n) for (topic, stage), n in sorted(dead.items())],
    )
    yield Metric(
        name="enricher_handling_seconds",
        help="How long the handler of a route takes.",
        kind="histogram",
        samples=[({"route": t}, stats.topics[t].handling) for t in sorted(routes & stats.topics.keys())],
    )
    yield Metric(
        name="enricher_latency_seconds",
        help="commit: received to visible; event: event time to visible; durable, visible: one commit.",
        kind="histogram",
        samples=[({"stage": stage}, histogram) for stage, histogram in sorted(stats.histograms.items())],
    )


_OF_SOURCES: Mapping[str, tuple[str, Kind]] = {
    "lag": ("Entries of a stream that nobody has read yet.", "gauge"),
    "pending": ("Entries that are read and not acknowledged.", "gauge"),
    "delayed": ("Entries that wait for another try.", "gauge"),
    "dead_letters": ("Dead letters of a stream's own store.", "gauge"),
    "reconnects": ("Connections made anew.", "counter"),
    "recovered": ("Entries that were taken over from a worker that went silent.", "counter"),
    "poison": ("Entries that were set aside because workers died of them.", "counter"),
    "entries_lost": ("Entries that were trimmed or deleted before they were read.", "counter"),
}


def _of_sources(sources: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    yield Metric(
        name="enricher_source_connected",
        help="1 while a source is connected.",
        kind="gauge",
        samples=[({"source": name}, float(bool(each["ready"]))) for name, each in sources.items()],
    )
    for key, (text, kind) in _OF_SOURCES.items():
        found = [(name, each[key]) for name, each in sources.items() if isinstance(each.get(key), int)]
        if found:
            samples = [({"source": name}, float(number)) for name, number in found]
            yield Metric(name=f"enricher_source_{key}", help=text, kind=kind, samples=samples)


def _of_channels(engine: Engine, sources: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    """Silence and gaps of what is subscribed to; a pattern is silent since its last channel spoke."""
    topics = [route.topic for route in engine.router.routes if route.intake == "pubsub"]
    silent: dict[str, float] = {}
    for each in sources.values():
        for channel, seconds in each.get("channels", {}).items():
            covering = (topic for topic in topics if channel == topic or covers(topic, channel))
            if (topic := next(covering, None)) is not None:
                silent[topic] = min(float(seconds), silent.get(topic, math.inf))
    if silent:
        yield Metric(
            name="enricher_channel_silent_seconds",
            help="Seconds since the last message of a channel, or since the start.",
            kind="gauge",
            samples=[({"channel": topic}, seconds) for topic, seconds in silent.items()],
        )
    stats = engine.stats.topics
    gaps = [(topic, stats[topic].counts["gaps"] if topic in stats else 0) for topic in topics]
    if gaps:
        yield Metric(
            name="enricher_channel_gaps",
            help="Times that a subscription may have missed messages of a channel.",
            kind="counter",
            samples=[({"channel": topic}, float(number)) for topic, number in gaps],
        )


def single(name: str, text: str, value: float, kind: Kind = "gauge") -> Metric:
    """A figure without labels."""
    return Metric(name=name, help=text, kind=kind, samples=[({}, float(value))])


def merged(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """Metrics of one name are one, whoever brings them."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        known = found.get(metric.name)
        samples = metric.samples if known is None else [*known.samples, *metric.samples]
        found[metric.name] = msgspec.structs.replace(metric, samples=samples)
    yield from found.values()
