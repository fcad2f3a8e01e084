"""What events and their pipelines raise.

    EnricherError
    |-- InvalidEvent        a body that no event type takes: all that is wrong, with paths (a BadMessage)
    |-- PipelineError       a pipeline whose graph cannot be run: which node, and what would be right
    |-- UnknownEvent        there is no event of an id (a BadMessage)
    |-- UnknownPipeline     no pipeline is registered for a type of event
    `-- NodeError           a node has failed, and what had finished before
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enricher.engine.effects import Effect
from enricher.errors import BadMessage, EnricherError
from enricher.texts import text_of


class PipelineError(EnricherError):
    """A pipeline cannot be run as it is declared."""


class UnknownPipeline(EnricherError, LookupError):
    """No pipeline is registered for a type of event."""

    def __init__(self, kind: str) -> None:
        self.type = kind
        super().__init__(f"Unknown pipeline type: {kind}")


class UnknownEvent(BadMessage, LookupError):
    """There is no event of an id."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__("$.id", "the id of an event", id)
        self.id = id
        self.args = (f"Event with id {id} not found",)


class NodeError(EnricherError):
    """The node ``node`` has failed with ``cause``.

    ``finished`` is what the context had then, as JSON knows it, ``effects`` those of nodes that had finished.
    """

    def __init__(self, node: str, cause: Exception) -> None:
        self.node = node
        self.cause = cause
        self.finished: Mapping[str, Any] = {}
        self.effects: Sequence[Effect] = ()
        super().__init__(f"{node}: {type(cause).__name__}: {text_of(cause)}")
