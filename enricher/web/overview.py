"""The first screen: how the worker is, in one glance, and what it has done in the last hour."""

from __future__ import annotations

from typing import Any

import msgspec

from enricher.engine.service import Engine
from enricher.redaction import redact_value
from enricher.web.pulse import Figures, Point, Pulse
from enricher.web.views import Asked, View


class RouteRow(msgspec.Struct, frozen=True):
    """A route: counters since the start, and how long its handler takes, in ms."""

    name: str
    received: int
    processed: int
    duplicates: int
    retried: int
    dead: int
    dropped: int
    p50: float | None
    p99: float | None


class SourceRow(msgspec.Struct, frozen=True):
    """Where messages come from; figures that it does not have are None."""

    name: str
    ready: bool
    lag: int | None
    pending: int | None
    delayed: int | None
    gaps: int | None
    reconnects: int | None


class OverviewAnswer(msgspec.Struct, frozen=True):
    """Figures of now, the routes and sources, what runs, and the last hour."""

    figures: Figures
    routes: list[RouteRow]
    sources: list[SourceRow]
    troubles: dict[str, str]
    in_flight: list[dict[str, Any]]
    history: list[Point]


class Overview:
    """Views of what every worker has."""

    def __init__(self, engine: Engine, pulse: Pulse) -> None:
        self._engine = engine
        self._pulse = pulse

    def views(self) -> list[View]:
        return [
            View(
                "overview",
                self.overview,
                "How the worker is: state, rates, latencies, routes, sources and the last hour.",
                menu="Overview",
                template="enricher.web:overview.html",
            ),
        ]

    async def overview(self, _: Asked[Any]) -> OverviewAnswer:
        health = self._engine.health()
        return OverviewAnswer(
            figures=self._pulse.now(),
            routes=self._routes(),
            sources=[_source(name, each) for name, each in sorted(health["sources"].items())],
            troubles={name: str(redact_value(why)) for name, why in health["troubles"].items()},
            in_flight=self._engine.stats.in_flight.rows()[:20],
            history=self._pulse.history,
        )

    def _routes(self) -> list[RouteRow]:
        rows = []
        for route in self._engine.router.routes:
            stats = self._engine.stats.topic(route.topic)
            handling, counts = stats.handling.summary(), stats.counts
            rows.append(
                RouteRow(
                    name=route.topic,
                    received=counts["received"],
                    processed=counts["processed"],
                    duplicates=counts["duplicate"],
                    retried=counts["retried"],
                    dead=counts["dead"],
                    dropped=counts["dropped"] + counts["conflated"],
                    p50=handling["p50_ms"],
                    p99=handling["p99_ms"],
                )
            )
        return rows


def _source(name: str, health: Any) -> SourceRow:
    numbers = {
        key: health[key] if isinstance(health.get(key), int) else None
        for key in ("lag", "pending", "delayed", "gaps", "reconnects")
    }
    return SourceRow(name=name, ready=bool(health["ready"]), **numbers)
