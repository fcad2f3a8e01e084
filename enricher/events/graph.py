"""The graph of a pipeline: checked once, and asked which nodes may begin. Pure.

    graph = Graph(Summarise, {Summarise: [Triage], Triage: [Escalate, Reply]})
    graph.ready(done={"Summarise"}, taken={})        # (Triage,)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from enricher.events.errors import PipelineError
from enricher.events.nodes import Node, Router, node_name


class Graph:
    """Nodes by name, in an order in which each comes after its predecessors.

    ``successors`` and ``predecessors`` are names by name. Raises `PipelineError` for a graph that cannot be
    run, with ``pipeline`` and the node.
    """

    def __init__(
        self,
        start: type[Node],
        nodes: Mapping[type[Node], type[Node] | Iterable[type[Node]]],
        pipeline: str = "the pipeline",
    ) -> None:
        self._pipeline = pipeline
        self.start = node_name(self._checked(start, "start"))
        self.nodes: dict[str, type[Node]] = {}
        self.successors: dict[str, tuple[str, ...]] = {}
        self._add(start)
        for node, after in nodes.items():
            self._add(self._checked(node, "nodes"))
            named = [after] if isinstance(after, type) else list(after)
            for each in named:
                self._add(self._checked(each, f"the successors of {node_name(node)}"))
            self.successors[node_name(node)] = tuple(dict.fromkeys(map(node_name, named)))
        self.predecessors: dict[str, tuple[str, ...]] = {
            name: tuple(before for before, after in self.successors.items() if name in after)
            for name in self.nodes
        }
        try:
            self.order = tuple(TopologicalSorter(self.predecessors).static_order())
        except CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise self._wrong(f"its nodes go round in a circle: {circle}") from None
        lost = sorted(self.nodes.keys() - self._reachable())
        if lost:
            raise self._wrong(f"no way leads from {self.start} to {', '.join(lost)}")

    def ready(self, done: Iterable[str], taken: Mapping[str, str | None]) -> tuple[str, ...]:
        """The nodes that may begin once those are done; ``taken`` has the way of each router that is.

        A node begins when all its predecessors that will be done are, and one of them leads to it.
        """
        finished, dropped = set(done), set[str]()
        found = []
        for name in self.order:
            if name in finished:
                continue
            if name == self.start:
                found.append(name)
                continue
            before = [each for each in self.predecessors[name] if each not in dropped]
            leading = [each for each in before if each not in finished or self._leads(each, name, taken)]
            if not leading:
                dropped.add(name)
            elif all(each in finished for each in before):
                found.append(name)
        return tuple(found)

    def chosen(self, router: str, node: type[Node] | None) -> str | None:
        """The name of the successor that a router has returned. Raises `PipelineError`."""
        if node is None:
            return None
        known = self.successors.get(router, ())
        name = node_name(node) if isinstance(node, type) and issubclass(node, Node) else repr(node)
        if name not in known:
            raise self._wrong(f"{router}.route returned {name}: expected one of {', '.join(known) or 'none'}")
        return name

    def is_router(self, name: str) -> bool:
        """Whether a node chooses among its successors."""
        return issubclass(self.nodes[name], Router)

    def _leads(self, before: str, name: str, taken: Mapping[str, str | None]) -> bool:
        return not self.is_router(before) or taken.get(before) == name

    def _reachable(self) -> set[str]:
        seen: set[str] = set()
        waiting = [self.start]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.successors.get(name, ())
        return seen

    def _add(self, node: type[Node]) -> None:
        name = node_name(node)
        other = self.nodes.setdefault(name, node)
        if other is not node:
            paths = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in (other, node))
            raise self._wrong(f"two nodes are called {name}: {paths}; give one a name of its own")

    def _checked(self, node: Any, where: str) -> type[Node]:
        if not isinstance(node, type) or not issubclass(node, Node):
            raise self._wrong(f"{where} has {node!r}: expected a class of Node")
        if lacking := sorted(node.__abstractmethods__):
            raise self._wrong(f"{node_name(node)} has no method {' and none '.join(lacking)}")
        return node

    def _wrong(self, why: str) -> PipelineError:
        return PipelineError(f"{self._pipeline}: {why}")


