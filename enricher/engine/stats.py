"""What the worker counts: counters per route, fixed-bucket histograms, and what is in flight."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

# Four buckets per power of two from 1 us to 2^42 us (51 days): quantiles are right within 25 %, and beyond
# that range they are the largest value seen.
_BUCKETS = 41 * 4


class Histogram:
    """Counts durations in microseconds in fixed buckets, four per power of two.

    Fixed buckets can be added up over processes and cost the same whatever is recorded. ``total`` is how many
    there were, ``sum`` how many microseconds together.
    """

    __slots__ = ("counts", "max", "sum", "total")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total = 0
        self.sum = 0
        self.max = 0

    def record(self, us: int) -> None:
        """Add one duration; negative ones (a clock that was set back) count as 0."""
        self.total += 1
        if us <= 0:
            self.counts[0] += 1
            return
        self.counts[_bucket(us)] += 1
        self.sum += us
        if us > self.max:
            self.max = us

    def record_all(self, durations: Sequence[int]) -> None:
        """Add many: sorted once, they are counted bucket by bucket and not one by one."""
        if len(durations) <= 1:
            for only in durations:
                self.record(only)
            return
        ascending = sorted(durations)
        at, many = 0, len(ascending)
        while at < many:
            index = _bucket(ascending[at])
            last = index == _BUCKETS - 1
            after = many if last else bisect_right(ascending, upper_edge(index), at)
            self.counts[index] += after - at
            at = after
        self.total += many
        self.sum += sum(ascending) if ascending[0] >= 0 else sum(us for us in ascending if us > 0)
        self.max = max(self.max, ascending[-1])

    def quantile(self, q: float) -> float | None:
        """Upper edge (microseconds) of the bucket in which the ``q`` quantile lies; None if empty."""
        if not self.total:
            return None
        rank = q * self.total
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                last = index == _BUCKETS - 1
                return float(self.max if last else min(upper_edge(index), self.max))
        return float(self.max)

    def since(self, earlier: Histogram | None) -> Histogram:
        """What was recorded after the copy ``earlier`` was taken (its ``max`` is the overall one)."""
        if earlier is None:
            return self
        late = Histogram()
        late.counts = [a - b for a, b in zip(self.counts, earlier.counts, strict=True)]
        late.total = self.total - earlier.total
        late.sum = self.sum - earlier.sum
        late.max = self.max
        return late

    def copy(self) -> Histogram:
        twin = Histogram()
        twin.counts, twin.total, twin.sum, twin.max = self.counts[:], self.total, self.sum, self.max
        return twin

    def summary(self) -> dict[str, float | int | None]:
        """Count, p50, p99, p99.9 and max in milliseconds, and the sum in microseconds."""

        def ms(q: float) -> float | None:
            value = self.quantile(q)
            return None if value is None else round(value / 1000, 3)

        return {
            "count": self.total,
            "p50_ms": ms(0.5),
            "p99_ms": ms(0.99),
            "p999_ms": ms(0.999),
            "max_ms": round(self.max / 1000, 3),
            "sum_us": self.sum,
        }


def _bucket(us: int) -> int:
    if us < 4:
        return max(us, 0)
    bits = us.bit_length()
    index = (bits - 2) * 4 + ((us >> (bits - 3)) & 3)
    return index if index < _BUCKETS else _BUCKETS - 1


def upper_edge(index: int) -> int:
    """Largest duration (microseconds) that falls into bucket ``index``."""
    if index < 4:
        return index
    octave, quarter = divmod(index, 4)
    # Bucket 4k+q holds values of k+2 bits whose two bits after the leading one are q.
    return ((4 + quarter + 1) << (octave - 1)) - 1


class InFlight:
    """What is being worked on: topic, key, attempt, since when (microseconds UTC)."""

    __slots__ = ("_next", "_rows")

    def __init__(self) -> None:
        self._rows: dict[int, tuple[str, str | None, int, int, str]] = {}
        self._next = 0

    def begin(self, topic: str, key: str | None, attempt: int, since_us: int, stage: str) -> int:
        """List something until `end` is called with the number returned."""
        self._next += 1
        self._rows[self._next] = (topic, key, attempt, since_us, stage)
        return self._next

    def end(self, row: int) -> None:
        del self._rows[row]

    def rows(self, limit: int = 50) -> list[dict[str, Any]]:
        """The oldest entries first."""
        ordered = sorted(self._rows.values(), key=lambda row: row[3])[:limit]
        names = ("topic", "key", "attempt", "since_us", "stage")
        return [dict(zip(names, row, strict=True)) for row in ordered]

    def __len__(self) -> int:
        return len(self._rows)


class RouteStats:
    """Counters of one route (or of one unknown topic) and how long its handler takes."""

    __slots__ = ("counts", "handling", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.counts: Counter[str] = Counter()
        self.handling = Histogram()


class Stats:
    """All figures of one engine. Reading them never disturbs the work.

    Counters per topic: received, processed, duplicates, dead, dropped, conflated, retried, lost,
    handed_back, and whatever a route adds. Histograms: `commit` (received to visible), `event` (event time to
    visible), `durable` and `visible` (one commit of a stage). ``dead`` counts dead letters by topic and
    stage. ``loop_lag_us`` says how late the loop was when that was last measured.
    """

    def __init__(self) -> None:
        self.topics: dict[str, RouteStats] = {}
        self.histograms: dict[str, Histogram] = {
            name: Histogram() for name in ("commit", "event", "durable", "visible")
        }
        self.counters: Counter[str] = Counter()
        self.dead: Counter[tuple[str, str]] = Counter()
        self.in_flight = InFlight()
        self.loop_lag_us = 0

    def topic(self, topic: str) -> RouteStats:
        """The counters of ``topic``, made on first use."""
        route = self.topics.get(topic)
        if route is None:
            route = self.topics[topic] = RouteStats(topic)
        return route

    def count(self, topic: str, label: str, number: int = 1) -> None:
        self.topic(topic).counts[label] += number

    def total(self, label: str) -> int:
        """Sum of one counter over all topics."""
        return sum(route.counts[label] for route in self.topics.values())

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return {
            "topics": {
                name: {**route.counts, "handling": route.handling.summary()}
                for name, route in sorted(self.topics.items())
            },
            "latency": {name: h.summary() for name, h in self.histograms.items()},
            "counters": dict(self.counters),
            "in_flight": self.in_flight.rows(),
        }
