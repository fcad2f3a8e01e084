"""Runs the pipeline of a stored event, and goes on where an earlier attempt has failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any

import anyio

from enricher.events.documents import Document
from enricher.events.errors import NodeError
from enricher.events.execution import SECONDS, resumed
from enricher.events.metrics import Attempts
from enricher.events.nodes import TaskContext, node_name
from enricher.events.pipeline import Pipeline
from enricher.events.processing import Finished
from enricher.events.registry import PipelineRegistry, pipeline_for, unserved
from enricher.events.search_node import MAPPINGS, ElasticsearchIndexNode, documents, index_nodes
from enricher.events.settings import EventSettings
from enricher.events.types import EventTypes
from enricher.storable import misfit
from enricher.texts import text_of

PIPELINE = "pipeline"
"""Where it failed, when it was in no node."""


class PipelineRunner:
    """Runs pipelines of ``registry``.

    A context has the ``id``, the ``type`` and ``created_at`` of its event in its metadata. ``searches`` says
    that there is a search server. ``attempts`` has the figures.
    """

    def __init__(
        self,
        settings: EventSettings,
        registry: type[PipelineRegistry],
        types: EventTypes,
        *,
        searches: bool = False,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._types = types
        self._searches = searches
        self.attempts = Attempts()

    async def __call__(self, event: Document, clients: Mapping[str, Any]) -> Finished:
        """What comes of an event. Raises `NodeError`, with what had finished before."""
        context: TaskContext | None = None
        earlier: dict[str, float] = {}
        began, where = perf_counter(), PIPELINE
        try:
            context = self._context(event, clients)
            pipeline = self.pipeline(event["type"], context.event)
            if self._settings.resume:
                resumed(context, event.get("task_context"))
                earlier = dict(context.metadata.get(SECONDS, {}))
            finished = await self._run(pipeline, context)
        except NodeError as error:
            where = error.node
            if context is not None:
                with suppress(TypeError, ValueError, RecursionError):  # then all nodes run again
                    error.finished, error.effects = _stored(context), context.effects
            raise
        except Exception as error:
            raise NodeError(PIPELINE, error) from error
        else:
            where = ""
            return finished
        finally:
            spent = {} if context is None else context.metadata.get(SECONDS, {})
            ran = {node: took for node, took in spent.items() if earlier.get(node) != took}
            self.attempts.note(event["type"], perf_counter() - began, ran, where)

    async def _run(self, pipeline: Pipeline, context: TaskContext) -> Finished:
        """Raises `NodeError`."""
        try:
            with anyio.fail_after(self._settings.timeout or None):
                await pipeline.arun(context.event, context=context)
            documents = self._documents(pipeline, context)
            return Finished(_outcome(context), context.effects, documents)
        except NodeError:
            raise
        except TimeoutError:
            text = f"it took longer than events.timeout, which is {self._settings.timeout:g} s"
            raise NodeError(PIPELINE, TimeoutError(text)) from None
        except Exception as error:
            raise NodeError(PIPELINE, error) from error

    def documents(self, event: Document, clients: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """What is to be indexed of an event that has succeeded, by index. Raises `NodeError`."""
        context = resumed(self._context(event, clients), event["task_context"])
        return self._documents(self.pipeline(event["type"], context.event), context)

    def _context(self, event: Document, clients: Mapping[str, Any]) -> TaskContext:
        created = event["created_at"].isoformat()
        metadata = {"id": event["_id"], "type": event["type"], "created_at": created}
        typed = self._types.event_of(event["type"], event["data"])
        context = TaskContext(typed, metadata=metadata, clients=clients)
        context.searchable = self._searches and self._settings.search
        return context

    def _documents(self, pipeline: Pipeline, context: TaskContext) -> Mapping[str, Mapping[str, Any]]:
        if not context.searchable:
            return {}
        try:
            return documents(pipeline, context)
        except Exception as error:
            raise NodeError(node_name(ElasticsearchIndexNode), error) from error

    def pipeline(self, kind: str, event: Any = None) -> Pipeline:
        """A new pipeline for a type of events, or for an event of it; it ends by indexing if no node does.

        Raises `UnknownPipeline`.
        """
        registry = self._registry
        pipeline = registry.of_type(kind) if event is None else pipeline_for(kind, event, registry)
        if self._searches and self._settings.index and not index_nodes(pipeline):
            pipeline.add_node(ElasticsearchIndexNode())
        return pipeline

    def indices(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings and mappings of the indices that pipelines name."""
        found: dict[str, Mapping[str, Any]] = {}
        for kind in self._registry.pipelines:
            with suppress(Exception):  # one that cannot be made is among the problems
                found.update((node.index, MAPPINGS) for node in index_nodes(self.pipeline(kind)))
        return found if self._searches and self._settings.search else {}

    def warnings(self) -> Iterable[str]:
        """What will probably be regretted."""
        if not self._registry.pipelines:
            yield "no pipeline is registered: name the packages that have some in events.packages"
        for name in unserved(self._registry):
            yield f"no pipeline is for events of type {name}: such an event is refused"

    def problems(self) -> Iterable[str]:
        """Modules that cannot be imported and pipelines that cannot be made, and why."""
        yield from self._registry.problems
        for kind in self._registry.pipelines:
            try:
                self.pipeline(kind)
            except Exception as error:  # noqa: BLE001  a program's own code may raise anything
                yield f"the pipeline of {kind} cannot be made: {type(error).__name__}: {text_of(error)}"


def _outcome(context: TaskContext) -> dict[str, Any]:
    """A context as it is stored. Raises `NodeError` for the node whose output cannot be, and drops that."""
    try:
        return _stored(context)
    except (TypeError, ValueError, RecursionError):
        for name, output in list(context.nodes.items()):
            try:
                _stored(TaskContext(None, {name: output}))
            except (TypeError, ValueError, RecursionError) as error:
                del context.nodes[name]
                context.withdraw(name)
                raise NodeError(name, error) from error
        raise


def _stored(context: TaskContext) -> dict[str, Any]:
    """A context as it is stored. Raises TypeError and ValueError for what cannot be."""
    found = context.model_dump(mode="json")
    if (wrong := misfit(found)) is not None:
        path, expected, got = wrong
        raise ValueError(f"{path} of the context cannot be stored: expected {expected}, got {got}")
    return found
