"""Figures for whoever scrapes them: what a system adds, and what every engine has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from enricher.engine.service import Engine
from enricher.engine.stats import Histogram


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A figure with its ``samples``: labels, and a number or a `Histogram`.

    The ``name`` of a counter is without ``_total``. Values of labels are bounded: names of routes, queues,
    classes, and nothing that a message says.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge", "histogram"]
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


def of_engine(engine: Engine) -> Iterator[Metric]:
    """What every engine has."""
    stats, health = engine.stats, engine.health()
    routes = {route.topic for route in engine.router.routes}
    topics = [(topic if topic in routes else "other", each) for topic, each in stats.topics.items()]
    counts: dict[tuple[str, str], int] = {}
    for topic, each in topics:
        for status, number in each.counts.items():
            counts[topic, status] = counts.get((topic, status), 0) + number
    yield Metric(
        name="enricher_messages",
        help="Messages of a route by what became of them; received counts them all.",
        kind="counter",
        samples=[({"route": topic, "status": status}, n) for (topic, status), n in sorted(counts.items())],
    )
    yield Metric(
        name="enricher_handling_seconds",
        help="How long the handler of a route takes.",
        kind="histogram",
        samples=[({"route": topic}, each.handling) for topic, each in topics if topic in routes],
    )
    yield Metric(
        name="enricher_latency_seconds",
        help="commit: received to visible; event: event time to visible; durable, visible: one commit.",
        kind="histogram",
        samples=[({"stage": stage}, histogram) for stage, histogram in sorted(stats.histograms.items())],
    )
    pool = health["pool"]
    yield _gauge("enricher_ready", "1 while it is ready.", engine.ready)
    yield _gauge("enricher_pool_messages", "Messages between receipt and commit.", pool["messages"])
    yield _gauge("enricher_pool_bytes", "Bytes of these messages.", pool["bytes"])
    yield _gauge("enricher_pool_lanes", "Keys that have a lane.", pool["lanes"])
    yield _gauge("enricher_in_flight", "Handlers that run.", len(stats.in_flight))
    yield _gauge("enricher_loop_lag_seconds", "How late the event loop is.", stats.loop_lag_us / 1e6)
    yield _gauge("enricher_stalled", "Things that wait and do not move.", len(health["stalled"]))
    yield Metric(
        name="enricher_outage",
        help="1 while a sink is unreachable.",
        kind="gauge",
        samples=[({"sink": sink.name}, float(sink.name in health["outages"])) for sink in engine.sinks],
    )
    yield from _of_sources(health["sources"])


_OF_SOURCES = {
    "lag": "Entries of a stream that nobody has read yet.",
    "pending": "Entries that are read and not acknowledged.",
    "delayed": "Entries that wait for another try.",
    "dead_letters": "Dead letters of a stream's own store.",
    "gaps": "Times that a subscription may have missed something, since the start.",
    "reconnects": "Connections made anew, since the start.",
}


def _of_sources(sources: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    yield Metric(
        name="enricher_source_connected",
        help="1 while a source is connected.",
        kind="gauge",
        samples=[({"source": name}, float(bool(each["ready"]))) for name, each in sources.items()],
    )
    for key, text in _OF_SOURCES.items():
        found = [(name, each[key]) for name, each in sources.items() if isinstance(each.get(key), int)]
        if found:
            samples = [({"source": name}, float(number)) for name, number in found]
            yield Metric(name=f"enricher_source_{key}", help=text, kind="gauge", samples=samples)
    silent = [
        ({"channel": channel}, float(seconds))
        for each in sources.values()
        for channel, seconds in each.get("channels", {}).items()
    ]
    if silent:
        text = "Seconds since the last message of a channel."
        yield Metric(name="enricher_channel_silent_seconds", help=text, kind="gauge", samples=silent)


def _gauge(name: str, text: str, value: float) -> Metric:
    return Metric(name=name, help=text, kind="gauge", samples=[({}, float(value))])


def merged(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """Metrics of one name are one, whoever brings them."""
    found: dict[str, Metric] = {}
    for metric in metrics:
        known = found.get(metric.name)
        samples = metric.samples if known is None else [*known.samples, *metric.samples]
        found[metric.name] = msgspec.structs.replace(metric, samples=samples)
    yield from found.values()
