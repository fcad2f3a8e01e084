"""What a pipeline is made of: nodes, routers, and the context that goes through them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Literal

import msgspec

from enricher.engine.effects import Effect
from enricher.engine.retry import RetryPolicy

RUNNING: ContextVar[str] = ContextVar("node", default="")
"""The node that runs."""


class Event(msgspec.Struct):
    """A base for types of events: ``class Ticket(Event)`` with annotated fields.

    Any msgspec Struct, dataclass or pydantic model is a type of events too.
    """


class TaskContext:
    """What goes through a pipeline: the event, the outputs of nodes by name, and whatever else they note.

    ``clients`` are the program's own, by name. What a node hands to `emit` is written with the result.
    ``searchable`` says that what nodes have indexed gets to a search server.
    """

    def __init__(
        self,
        event: Any,
        nodes: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        clients: Mapping[str, Any] | None = None,
    ) -> None:
        self.event = event
        self.nodes: dict[str, Any] = dict(nodes or {})
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.clients: Mapping[str, Any] = clients or {}
        self.searchable = False
        self._emitted: list[tuple[str, Effect]] = []

    def emit(self, *effects: Effect) -> None:
        """Have effects written with the result, or the failure after this node: publish, enqueue, store.

        They are written once, whatever fails or crashes, where the node has finished: then it does not run
        again. Of one that fails they are dropped.
        """
        self._emitted += [(RUNNING.get(), effect) for effect in effects]

    @property
    def effects(self) -> list[Effect]:
        """The effects that nodes have handed to `emit`."""
        return [effect for _, effect in self._emitted]

    def withdraw(self, node: str) -> None:
        """Drop the effects of a node that has failed."""
        self._emitted = [(name, effect) for name, effect in self._emitted if name != node]

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """Event, nodes and metadata as a dict; with mode ``json`` of nothing but what JSON knows.

        Raises TypeError, which names the type, for what cannot be shown so.
        """
        whole = {"event": self.event, "nodes": self.nodes, "metadata": self.metadata}
        return _decode(_encode(whole)) if mode == "json" else whole

    def __repr__(self) -> str:
        return f"TaskContext(event={self.event!r}, nodes={self.nodes!r}, metadata={self.metadata!r})"


class Node(ABC):
    """A step of a pipeline; made anew for each event.

    ``name`` (default: the class's) is what its output is called, ``timeout`` bounds one try in seconds, and
    ``retry`` says how often it is tried again before the event fails.
    """

    name: ClassVar[str] = ""
    timeout: ClassVar[float | None] = None
    retry: ClassVar[RetryPolicy | None] = None

    @abstractmethod
    def process(self, context: TaskContext) -> TaskContext | Awaitable[TaskContext]:
        """Work on ``context.event``, note the output in ``context.nodes``, and return the context.

        A plain method runs in a thread, an async one in the loop.
        """


class Router(Node):
    """A node that chooses which of its successors goes on."""

    @abstractmethod
    def route(self, context: TaskContext) -> type[Node] | None:
        """The successor that goes on; None: the pipeline ends here."""

    def process(self, context: TaskContext) -> TaskContext | Awaitable[TaskContext]:
        """Nothing, unless a router of your own has work to do."""
        return context


def node_name(node: type[Node] | Node) -> str:
    """What the output of a node is called."""
    kind = node if isinstance(node, type) else type(node)
    return node.name or kind.__name__


def plain(value: Any) -> Any:
    """A value as JSON knows it. Raises TypeError for one that it does not."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_as_plain)


def _as_plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):  # a pydantic model
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} is nothing that JSON knows: {value!r:.80}")


_encode = msgspec.json.Encoder(enc_hook=_as_plain).encode
_decode = msgspec.json.Decoder().decode
