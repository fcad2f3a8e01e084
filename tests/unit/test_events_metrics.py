"""Figures of pipelines: attempts and nodes, counted and timed."""

from __future__ import annotations

from typing import Any

import pytest

from enricher.engine.stats import Histogram
from enricher.events import NodeError, PipelineRegistry
from enricher.events.documents import failed, pending
from enricher.events.running import PipelineRunner
from enricher.events.settings import EventSettings
from enricher.events.types import EventTypes
from tests.event_app.tickets import RUNS, Ticket, TicketPipeline


class Registry(PipelineRegistry):
    pipelines = {"Ticket": TicketPipeline}


async def figures(runner: PipelineRunner) -> dict[str, Any]:
    """Numbers, and how many durations, by name and labels."""
    return {
        " ".join([metric.name, *labels.values()]): value.total if isinstance(value, Histogram) else value
        for metric in await runner.attempts.metrics()
        for labels, value in metric.samples
    }


async def test_a_node_that_is_not_run_again_is_counted_once() -> None:
    RUNS.clear()
    runner = PipelineRunner(EventSettings(), Registry, EventTypes({"Ticket": Ticket}))
    event = pending("one", "Ticket", {"text": "fail 1"}, token="", now_us=1_700_000_000_000_000)
    with pytest.raises(NodeError) as error:
        await runner(event, {})
    again = failed(event, error.value.finished, "Reply", OSError(), 1, 1_700_000_000_000_000, final=False)
    await runner(again, {})
    assert await figures(runner) == {
        "enricher_pipeline_attempts Ticket failed": 1,
        "enricher_pipeline_attempts Ticket finished": 1,
        "enricher_pipeline_seconds Ticket": 2,
        "enricher_node_runs Ticket Summarise finished": 1,
        "enricher_node_runs Ticket Triage finished": 1,
        "enricher_node_runs Ticket Reply failed": 1,
        "enricher_node_runs Ticket Reply finished": 1,
        "enricher_node_seconds Ticket Summarise": 1,
        "enricher_node_seconds Ticket Triage": 1,
        "enricher_node_seconds Ticket Reply": 2,
    }
