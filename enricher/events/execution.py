"""One event through one graph: which node runs when, how often, and for how long.

What has finished is in ``context.nodes``, and the ways of routers in ``context.metadata["routes"]``: a
context that has some of it already goes on after them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread

from enricher.engine.isolation import apart
from enricher.engine.retry import NO_RETRY, Retry
from enricher.events.errors import NodeError
from enricher.events.graph import Graph
from enricher.events.nodes import RUNNING, Node, Router, TaskContext, node_name
from enricher.tracebacks import from_foreign_code

ROUTES, SECONDS = "routes", "seconds"


class Execution:
    """Runs the nodes of ``graph`` on ``context``, then the ``added`` ones, one after the other."""

    def __init__(self, graph: Graph, added: Sequence[Node], context: TaskContext) -> None:
        self._graph = graph
        self._added = added
        self._context = context
        self._routes: dict[str, str | None] = dict(context.metadata.get(ROUTES, {}))
        self._seconds: dict[str, float] = dict(context.metadata.get(SECONDS, {}))
        self._done = {name for name in graph.nodes if name in context.nodes}
        self._begun: set[str] = set()
        self._failed: NodeError | None = None

    async def run(self) -> None:
        """Raises `NodeError` for the first node that failed; those beside it have come to their ends."""
        try:
            async with anyio.create_task_group() as tasks:
                await self._way(None, tasks)
            for node in self._added if self._failed is None else ():
                name = node_name(node)
                if name not in self._context.nodes:
                    await self._one(name, node)
                if self._failed is not None:
                    break
        finally:
            self._context.metadata[SECONDS] = self._seconds
            if self._routes:
                self._context.metadata[ROUTES] = self._routes
        if self._failed is not None:
            raise self._failed

    async def _way(self, name: str | None, tasks: anyio.abc.TaskGroup) -> None:
        """Run the node and what may begin after it: one here, the others beside it. None: from the start."""
        while True:
            if name is not None:
                await self._one(name, self._graph.nodes[name])
                self._done.add(name)
            ready = [] if self._failed is not None else self._graph.ready(self._done, self._routes)
            ready = [each for each in ready if each not in self._begun]
            if not ready:
                return
            self._begun.update(ready)
            name, *others = ready
            for other in others:
                tasks.start_soon(self._way, other, tasks)

    async def _one(self, name: str, given: Node | type[Node]) -> None:
        began, before, finished = perf_counter(), name in self._context.nodes, False
        RUNNING.set(name)
        try:
            node = given() if isinstance(given, type) else given
            await self._tries(name, node)
            if isinstance(node, Router) and name in self._graph.nodes:
                self._routes[name] = self._graph.chosen(name, node.route(self._context))
            self._context.nodes.setdefault(name, None)
            finished = True
        except Exception as error:  # noqa: BLE001  a node may fail in any way
            self._failed = self._failed or NodeError(name, _theirs(error))
        finally:
            if not finished:  # whatever it noted
                self._context.withdraw(name)
                if not before:
                    self._context.nodes.pop(name, None)
            self._seconds[name] = round(perf_counter() - began, 6)

    async def _tries(self, name: str, node: Node) -> None:
        policy, attempt = node.retry or NO_RETRY, 0
        while True:
            attempt += 1
            try:
                self._merge(name, await apart(_call, node, self._context, timeout=node.timeout, name=name))
            except Exception as error:
                self._context.withdraw(name)
                decision = policy.decide(attempt, error)
                if not isinstance(decision, Retry):
                    raise
                await anyio.sleep(decision.delay)
            else:
                return

    def _merge(self, name: str, returned: Any) -> None:
        if returned is self._context:
            return
        if not isinstance(returned, TaskContext):
            shown = f"{returned!r:.80}"
            raise TypeError(f"{name}.process returned {shown}: expected the TaskContext that it was given")
        self._context.nodes.update(returned.nodes)
        self._context.metadata.update(returned.metadata)
        self._context.emit(*returned.effects)


async def _call(node: Node, context: TaskContext) -> Any:
    if inspect.iscoroutinefunction(node.process):
        return await node.process(context)
    if type(node).process is Router.process:
        return context
    result = await anyio.to_thread.run_sync(node.process, context, abandon_on_cancel=True)
    return await result if inspect.isawaitable(result) else result


def resumed(context: TaskContext, stored: Mapping[str, Any] | None) -> TaskContext:
    """The context with what an earlier attempt had finished, as it was stored."""
    if stored:
        context.nodes.update(stored.get("nodes", {}))
        context.metadata.update(stored.get("metadata", {}))
    return context


def _theirs(error: Exception) -> Exception:
    """The error with a traceback that begins in the code of the node."""
    from_foreign_code(error)
    return error
