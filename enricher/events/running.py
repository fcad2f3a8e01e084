"""Runs the pipeline of a stored event, and goes on where an earlier attempt has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enricher.events.documents import Document
from enricher.events.errors import NodeError
from enricher.events.execution import resumed
from enricher.events.nodes import TaskContext
from enricher.events.pipeline import Pipeline
from enricher.events.processing import Finished
from enricher.events.registry import PipelineRegistry
from enricher.events.settings import EventSettings
from enricher.events.types import EventTypes


class PipelineRunner:
    """Runs pipelines of ``registry``. A context carries its event's id in ``metadata["id"]``."""

    def __init__(self, settings: EventSettings, registry: type[PipelineRegistry], types: EventTypes) -> None:
        self._settings = settings
        self._registry = registry
        self._types = types

    async def __call__(self, event: Document, clients: Mapping[str, Any]) -> Finished:
        """What comes of an event. Raises `NodeError`, with what had finished before."""
        typed = self._types.event_of(event["type"], event["data"])
        context = TaskContext(typed, metadata={"id": event["_id"]}, clients=clients)
        if self._settings.resume:
            resumed(context, event.get("task_context"))
        pipeline = self._pipeline(event["type"])
        try:
            await pipeline.arun(typed, context=context)
        except NodeError as error:
            error.finished = context.model_dump(mode="json")
            raise
        return Finished(context.model_dump(mode="json"), context.effects)

    def _pipeline(self, kind: str) -> Pipeline:
        return self._registry.of_type(kind)

    def warnings(self) -> Iterable[str]:
        """What will probably be regretted."""
        yield from self._registry.problems
        if not self._registry.pipelines:
            yield "no pipeline is registered: name the packages that have some in events.packages"
