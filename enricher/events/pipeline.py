"""A pipeline: the graph of nodes that an event goes through.

    class TicketPipeline(Pipeline):
        event = Ticket
        start = Summarise
        nodes = {Summarise: [Triage], Triage: [Escalate, Reply]}

    context = TicketPipeline().run(ticket)          # in a script; in a loop: await ....arun(ticket)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from enricher.errors import EnricherError
from enricher.events.errors import PipelineError
from enricher.events.execution import Execution
from enricher.events.graph import Graph
from enricher.events.nodes import Node, TaskContext, node_name


class Pipeline:
    """Made anew for each event, so that what is added to one is in no other.

    ``event`` is the type of its events, ``event_type`` what that is called in a body (default: the class's
    name). ``start`` is the first node, ``nodes`` the successors of each. Of several successors all go on at
    once, of a router's the one that it returns.
    """

    event: ClassVar[type[Any]]
    event_type: ClassVar[str] = ""
    start: ClassVar[type[Node]]
    nodes: ClassVar[Mapping[type[Node], type[Node] | Iterable[type[Node]]]] = {}

    def __init__(self) -> None:
        self.graph = graph_of(type(self))
        self.added: list[Node] = []

    def add_node(self, node: Node | type[Node]) -> None:
        """Add a node after the last ones. Raises `PipelineError` for a name that is there."""
        made = node() if isinstance(node, type) else node
        name = node_name(made)
        if name in self.graph.nodes or name in map(node_name, self.added):
            raise PipelineError(f"{type(self).__name__}: a node is called {name} already")
        self.added.append(made)

    def run(self, event: Any) -> TaskContext:
        """What comes of an event, in a program without a loop. Raises `NodeError`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.arun(event))
        raise EnricherError("run() would stop the loop it is called in: use `await pipeline.arun(event)`")

    async def arun(self, event: Any, *, context: TaskContext | None = None) -> TaskContext:
        """What comes of an event; ``context`` is one to begin with. Raises `NodeError`."""
        whole = TaskContext(event) if context is None else context
        await Execution(self.graph, self.added, whole).run()
        return whole


def graph_of(pipeline: type[Pipeline]) -> Graph:
    """The graph of a pipeline, checked once. Raises `PipelineError`."""
    known: Graph | None = vars(pipeline).get("_graph")
    if known is None:
        for name in ("event", "start"):
            if not isinstance(getattr(pipeline, name, None), type):
                raise PipelineError(f"{pipeline.__name__}: {name} is missing: expected a class")
        known = Graph(pipeline.start, pipeline.nodes, pipeline.__name__)
        pipeline._graph = known  # type: ignore[attr-defined]
    return known


def type_name(pipeline: type[Pipeline]) -> str:
    """What its type of events is called in a body."""
    return pipeline.event_type or pipeline.event.__name__
