"""The node that has an event indexed, so that it can be searched for.

    pipeline.add_node(ElasticsearchIndexNode(index="tickets", document=lambda context: {...}))

It writes nothing itself. What it indexes is made when the whole pipeline has succeeded, and written after the
event's own document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from enricher.config.search import index_problem
from enricher.events.errors import PipelineError
from enricher.events.nodes import Node, TaskContext, node_name, plain
from enricher.events.pipeline import Pipeline

MAPPINGS: Mapping[str, Any] = {
    # Events of several types share an index: what does not fit a number or a date is stored and not searched,
    # and a text that looks like a date makes no date of what comes after it.
    "settings": {"index": {"mapping": {"ignore_malformed": True}}},
    "mappings": {
        "date_detection": False,
        "properties": {"type": {"type": "keyword"}, "created_at": {"type": "date"}},
    },
}
"""Settings and mappings of an index of events that is not there yet."""

_SKIPPED = "skipped: there is no search server; see search.url and events.search"


class ElasticsearchIndexNode(Node):
    """Has the event indexed in ``index`` as ``document`` of the context, under the id of the event.

    A subclass may have both as a class attribute and a method. By default the document has the event's
    ``type``, ``created_at`` and ``data``, and the outputs of the ``nodes``. Without a search server the node
    is skipped, and says so in ``context.metadata``. Raises `PipelineError` for a name that no index can have.
    """

    index: str = "events"

    def __init__(
        self, index: str = "", document: Callable[[TaskContext], Mapping[str, Any]] | None = None
    ) -> None:
        self.index = index or self.index
        self._document = document
        _check(self.index, type(self))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _check(cls.index, cls)

    def document(self, context: TaskContext) -> Mapping[str, Any]:
        """What is indexed."""
        if self._document is not None:
            return self._document(context)
        about = {name: context.metadata.get(name) for name in ("type", "created_at")}
        nodes = {name: output for name, output in context.nodes.items() if name != node_name(self)}
        return {**about, "data": context.event, "nodes": nodes}

    async def process(self, context: TaskContext) -> TaskContext:
        name = node_name(self)
        if context.searchable:
            context.nodes[name] = {"index": self.index}
        else:
            context.metadata[name] = _SKIPPED
        return context


def index_nodes(pipeline: Pipeline) -> list[ElasticsearchIndexNode]:
    """The nodes of a pipeline that index, those of its graph and those that were added."""
    kinds = [kind for kind in pipeline.graph.nodes.values() if issubclass(kind, ElasticsearchIndexNode)]
    added = [node for node in pipeline.added if isinstance(node, ElasticsearchIndexNode)]
    return [*(kind() for kind in kinds), *added]


def documents(pipeline: Pipeline, context: TaskContext) -> dict[str, Mapping[str, Any]]:
    """What is to be indexed of a finished event, by index, as JSON knows it. Raises what a node raises."""
    ran = [node for node in index_nodes(pipeline) if context.nodes.get(node_name(node)) is not None]
    return {node.index: plain(node.document(context)) for node in ran}


def _check(index: str, node: type[Node]) -> None:
    if problem := index_problem(index):
        raise PipelineError(f"{node.__name__}: index {index!r}: expected {problem}")
