"""`process_incoming_event`: an event of the stream goes through its pipeline, and its document is replaced.

Nodes run at least once. What is stored, indexed and published of the result is so once: the document carries
a revision, and all of it is written in the commit that acknowledges the entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from enricher.engine.effects import Effect, Publish, SetKey
from enricher.engine.ports import Failing
from enricher.engine.retry import Retry, RetryPolicy
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.events.documents import Document, failed, replacement, started, succeeded
from enricher.events.errors import NodeError, UnknownEvent
from enricher.events.settings import EventSettings
from enricher.system import Host
from enricher.texts import trace_of

_encode = msgspec.json.Encoder().encode


class Finished(msgspec.Struct, frozen=True):
    """What a pipeline has made of an event: its context as plain values, and effects of its nodes."""

    context: Mapping[str, Any]
    effects: Sequence[Effect] = ()


class Pipelines(Protocol):
    """Runs the pipeline of an event."""

    async def __call__(self, event: Document, clients: Mapping[str, Any]) -> Finished:
        """Raises `NodeError` for what a node raised."""
        ...


class Processor:
    """The handler of the events' stream. ``policy`` is that of its route."""

    def __init__(
        self, settings: EventSettings, host: Host, pipelines: Pipelines, policy: RetryPolicy
    ) -> None:
        self._settings = settings
        self._host = host
        self._pipelines = pipelines
        self._policy = policy

    async def __call__(self, id_: str, context: Context) -> Sequence[Effect]:
        """The effects of one event. Raises `Failing`, and `SinkUnavailable` when it cannot be read."""
        found = await self._host.reader.find(self._settings.collection, {"_id": id_}, limit=1)
        if not found:
            raise UnknownEvent(id_)
        event = found[0]
        if event["status"] == "SUCCESS":
            return ()  # its entry was appended twice
        event = started(event, context.attempt, self._host.clock())
        self._host.emit(replacement(self._settings.collection, event), *self._result(event, None))
        try:
            finished = await self._pipelines(event, context.clients)
        except NodeError as error:
            raise self._failing(event, error, context.attempt) from error
        done = succeeded(event, finished.context, context.attempt, self._host.clock())
        result = self._result(done, finished.context)
        return [replacement(self._settings.collection, done), *finished.effects, *result]

    def _failing(self, event: Document, error: NodeError, attempt: int) -> Failing:
        final = not isinstance(self._policy.decide(attempt, error.cause), Retry)
        kept = error.finished if self._settings.resume else {}
        after = failed(event, kept, error.node, error.cause, attempt, self._host.clock(), final=final)
        kind = type(error.cause)
        shown = {"exc_type": kind.__name__, "exc_message": [str(error)], "exc_module": kind.__module__}
        result = self._result(after, shown, trace_of(error.cause))
        effects = [replacement(self._settings.collection, after), *result]
        return Failing(error.cause, retrying=effects, failed=effects)

    def _result(self, event: Document, result: Any, traceback: str | None = None) -> Sequence[Effect]:
        """The state as Celery's clients read it; an older one never replaces a newer."""
        name = f"celery-task-meta-{event['_id']}"
        value = {
            "status": event["status"],
            "result": result,
            "traceback": traceback,
            "children": [],
            "date_done": event["finished_at"],
            "task_id": event["_id"],
        }
        text, ttl_ms = _encode(value), self._settings.result_ttl * 1000
        return SetKey(name, text, ttl_ms, event["revision"]), Publish(name, text)


def read_id(body: bytes, _: Context) -> str:
    """The id in an entry of the stream."""
    try:
        fields = msgspec.json.decode(body)
        if isinstance(fields, dict) and isinstance(fields.get("id"), str) and fields["id"]:
            return str(fields["id"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise BadMessage("$.id", "the id of an event", repr(body[:100]))
