"""What machines ask a worker: whether it lives, whether it is ready, its figures, how much waits.

Each is answered also while the worker stops: it is not ready then, and its last figures can be scraped.

    /livez        the loop turns and nothing stands still; asks no server
    /readyz       connected, restored, not stopping; says what is missing
    /healthcheck  as /livez, under the name that Flower has for it
    /metrics      for Prometheus
    /scale        what waits, for an autoscaler
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
from prometheus_client import ProcessCollector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from enricher.engine.service import Engine
from enricher.log import log
from enricher.metrics import Kind, Metric, merged, of_engine, single
from enricher.redaction import redact_text
from enricher.web.calling import Readiness
from enricher.web.exposition import CONTENT_TYPE, exposition
from enricher.web.requests import Json

Ask = Callable[[], Awaitable[Iterable[Metric]]]

# Seconds that a system gets to ask a server for its figures: a scrape must not hang on an outage.
_PATIENCE = 1.0
_UNBEGUN = ("enricher_queue_jobs", "enricher_source_lag")
_WAITING = (
    *("enricher_queue_jobs", "enricher_queue_oldest_seconds"),
    *("enricher_source_lag", "enricher_source_pending", "enricher_source_delayed"),
)


class Operations:
    """The pages of ``engine``; ``asks`` are for the figures of systems, the others say whose it is."""

    def __init__(self, engine: Engine, asks: Sequence[Ask], *, service: str = "", instance: str = "") -> None:
        self._engine = engine
        self._asks = asks
        self._service = service
        self._instance = instance

    def routes(self) -> list[Route]:
        """The pages."""
        return [
            Route("/livez", self.live, methods=["GET"]),
            Route("/healthcheck", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/scale", self.scale, methods=["GET"]),
        ]

    async def live(self, _: Request) -> Response:
        """200 while it lives, 503 with why not."""
        wrong = list(self._engine.stalled)
        if self._engine.failure is not None:
            wrong.append(redact_text(str(self._engine.failure)))
        return PlainTextResponse("\n".join(wrong) or "OK", 503 if wrong else 200)

    async def ready(self, _: Request) -> Response:
        """200 while it is ready, 503 with what is missing."""
        health = self._engine.health()
        missing = dict(health["outages"])
        missing |= {name: "not connected" for name, each in health["sources"].items() if not each["ready"]}
        if health["restoring"] is not None:
            missing["states"] = "restored {done} of {total}".format(**health["restoring"])
        said = Readiness(
            self._service,
            self._instance,
            health["status"],
            {name: redact_text(str(why)) for name, why in missing.items()},
            {topic: redact_text(why) for topic, why in health["troubles"].items()},
            health["stalled"],
        )
        return Json(said, 200 if self._engine.ready else 503)

    async def metrics(self, _: Request) -> Response:
        """All figures in the text format of Prometheus."""
        metrics = [*of_engine(self._engine), *_of_process(), *await self._asked()]
        return Response(exposition(merged(metrics)), media_type=CONTENT_TYPE)

    async def scale(self, _: Request) -> Response:
        """What waits, by the names of the metrics; ``waiting`` is all that nobody has begun."""
        metrics = [*of_engine(self._engine), *await self._asked()]
        waiting: dict[str, Any] = {
            metric.name: [{**labels, "value": value} for labels, value in metric.samples]
            for metric in merged(metrics)
            if metric.name in _WAITING
        }
        waiting["waiting"] = sum(
            sample["value"]
            for name in _UNBEGUN
            for sample in waiting.get(name, ())
            if sample.get("state", "waiting") == "waiting"
        )
        return Json(waiting)

    async def _asked(self) -> list[Metric]:
        """What systems and sinks have to say; it takes no longer than the slowest of them."""
        if self._engine.ended:
            return []  # their connections are closed
        asks = [*self._asks, *filter(None, (getattr(sink, "metrics", None) for sink in self._engine.sinks))]
        found: list[Sequence[Metric]] = [()] * len(asks)

        async def ask(number: int) -> None:
            try:
                with anyio.fail_after(_PATIENCE):
                    found[number] = tuple(await asks[number]())
            except Exception as error:  # noqa: BLE001  the figures of the others are there all the same
                log.debug("figures_missing", reason=repr(error))

        async with anyio.create_task_group() as tasks:
            for number in range(len(asks)):
                tasks.start_soon(ask, number)
        return [metric for metrics in found for metric in metrics]


# CPU, memory, open files and start of this process, under the names that every exporter has for them.
_PROCESS = ProcessCollector(registry=None)
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def _of_process() -> Iterable[Metric]:
    """Figures of this process, and how much memory the container may use if there is a limit."""
    for family in _PROCESS.collect():
        samples = [(sample.labels, sample.value) for sample in family.samples]
        kind: Kind = "counter" if family.type == "counter" else "gauge"
        yield Metric(name=family.name, help=family.documentation, kind=kind, samples=samples)
    with suppress(OSError, ValueError):  # "max" is none
        limit = int(_CGROUP.read_text())
        yield single("enricher_memory_limit_bytes", "Memory that the container may use.", limit)
