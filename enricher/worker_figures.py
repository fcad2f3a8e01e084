"""The figures of a running worker: kept in Redis for whoever looks, and summed up in the log."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import msgspec

from enricher.config import Settings
from enricher.engine.effects import SetKey
from enricher.engine.ports import Write
from enricher.engine.service import Engine
from enricher.engine.stats import Histogram, Stats
from enricher.errors import EnricherError
from enricher.log import log
from enricher.redaction import redact_value

Summary = Callable[[Stats], tuple[str, Mapping[str, int]]]
"""A line for the log and its figures, from the counters."""

_COUNTS = ("received", "processed", "duplicate", "dead", "dropped", "conflated", "retried")


class Figures:
    """The figures of ``engine``; ``summaries`` are further lines for the log."""

    def __init__(self, engine: Engine, settings: Settings, summaries: Sequence[Summary]) -> None:
        self._engine = engine
        self._settings = settings
        self._summaries = summaries
        self._instance = settings.instance
        self._started_us = engine.clock()
        # Latency of the last interval alone.
        self._recent: dict[str, Any] = {}
        self._logged: dict[str | int, object] = {}

    def begin(self) -> None:
        """Keep, log and measure as long as the engine runs, also while it drains."""
        self._engine.begin("statistics", self._keep)
        self._engine.begin("announcement", self._announce)
        self._engine.begin("measurement of lag", self._measure_lag)

    def health(self) -> dict[str, Any]:
        """Status, outages, troubles, sources and level of the pool, as plain values without passwords."""
        return {name: redact_value(value) for name, value in self._engine.health().items()}

    def now(self) -> dict[str, Any]:
        """All of them as plain values: health and counters, times in microseconds UTC."""
        return {
            "service": self._settings.service.name,
            "instance": self._instance,
            "pid": os.getpid(),
            "started_us": self._started_us,
            "now_us": self._engine.clock(),
            "loop_lag_ms": round(self._engine.stats.loop_lag_us / 1000, 3),
            **self.health(),
            **self._engine.stats.snapshot(),
            "recent": dict(self._recent),
        }

    def log_summaries(self, *, at_end: bool = False) -> None:
        """Log the lines of ``summaries`` whose figures have changed, or ``at_end`` all of them."""
        for number, summary in enumerate(self._summaries):
            line, figures = summary(self._engine.stats)
            if self._changed(number, figures) or at_end:
                log.summary(line, **figures)

    async def _announce(self) -> None:
        with suppress(EnricherError):  # stopped before
            await self._engine.wait_ready()
            log.info("ready", instance=self._instance)

    async def _measure_lag(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.25)
            self._engine.stats.loop_lag_us = max(0, int((time.perf_counter() - before - 0.25) * 1e6))

    async def _keep(self) -> None:
        settings, histograms = self._settings.stats, self._engine.stats.histograms
        key, ttl_ms = self._settings.stats_key, int(settings.interval * 3000) + 5000
        group = self._engine.writer.group(("live",))
        summary_due = time.monotonic() + settings.summary_interval
        before: Counter[str] = Counter()
        commits = histograms["commit"].copy()
        earlier = {name: histogram.copy() for name, histogram in histograms.items()}
        while True:
            await anyio.sleep(settings.interval)
            for name, histogram in histograms.items():
                self._recent[name] = histogram.since(earlier[name]).summary()
                earlier[name] = histogram.copy()
            # While Redis is away the figures do not pile up: the next ones replace them anyway.
            if not group.unfinished and not self._engine.ended:
                figures = SetKey(key, msgspec.json.encode(self.now()), ttl_ms)
                self._engine.writer.submit(Write((figures,), label="figures"))
            if time.monotonic() >= summary_due:
                summary_due += settings.summary_interval
                self.log_summaries()
                before = self._log_summary(before, commits)
                commits = histograms["commit"].copy()
            log.catch_up()

    def _log_summary(self, before: Counter[str], earlier: Histogram) -> Counter[str]:
        """Log what happened since the last summary: counts and latency of that time alone."""
        stats = self._engine.stats
        now = Counter({name: stats.total(name) for name in _COUNTS})
        commit = stats.histograms["commit"].since(earlier).summary()
        queued, status = self._engine.pool.count, self.health()["status"]
        if self._changed("summary", (now, queued, status)):
            log.summary(
                "summary",
                **{name: now[name] - before[name] for name in _COUNTS},
                queued=queued,
                p50_ms=commit["p50_ms"],
                p99_ms=commit["p99_ms"],
                status=status,
            )
        return now

    def _changed(self, summary: str | int, figures: object) -> bool:
        """Whether ``figures`` are others than when this summary was last logged, which is now."""
        before, self._logged[summary] = self._logged.get(summary), figures
        return before != figures
