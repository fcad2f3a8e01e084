"""Figures of pipelines: how attempts ended and how long they took, of each pipeline and of each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from enricher.engine.stats import Histogram
from enricher.metrics import Metric


class Attempts:
    """Attempts of this process at events, by type of event."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._took: dict[str, Histogram] = {}
        self._nodes: Counter[tuple[str, str, str]] = Counter()
        self._nodes_took: dict[tuple[str, str], Histogram] = {}

    def note(self, kind: str, seconds: float, nodes: Mapping[str, float], failed: str = "") -> None:
        """An attempt has ended, or failed at ``failed``; ``nodes`` {name: seconds} are those that ran."""
        self._counts[kind, "failed" if failed else "finished"] += 1
        self._took.setdefault(kind, Histogram()).record(int(seconds * 1e6))
        for node, took in nodes.items():
            self._nodes[kind, node, "failed" if node == failed else "finished"] += 1
            self._nodes_took.setdefault((kind, node), Histogram()).record(int(took * 1e6))

    async def metrics(self) -> Iterable[Metric]:
        """Counters and durations."""
        return (
            Metric(
                name="enricher_pipeline_attempts",
                help="Attempts at events by what became of them.",
                kind="counter",
                samples=[({"type": k, "status": s}, n) for (k, s), n in sorted(self._counts.items())],
            ),
            Metric(
                name="enricher_pipeline_seconds",
                help="How long an attempt at an event takes.",
                kind="histogram",
                samples=[({"type": kind}, took) for kind, took in sorted(self._took.items())],
            ),
            Metric(
                name="enricher_node_runs",
                help="Runs of a node of a pipeline by what became of them.",
                kind="counter",
                samples=[
                    ({"type": kind, "node": node, "status": status}, number)
                    for (kind, node, status), number in sorted(self._nodes.items())
                ],
            ),
            Metric(
                name="enricher_node_seconds",
                help="How long a node of a pipeline takes, with its tries.",
                kind="histogram",
                samples=[
                    ({"type": kind, "node": node}, took)
                    for (kind, node), took in sorted(self._nodes_took.items())
                ],
            ),
        )
