"""`process_incoming_event`: an event of the stream goes through its pipeline, and its document is replaced.

Nodes run at least once. What is stored, indexed and published of the result is so once: the document carries
a revision, and all of it is written in the commit that acknowledges the entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from enricher.engine.effects import DOCUMENTS, SEARCH, Effect, Index, Publish, SetKey
from enricher.engine.ports import Failing
from enricher.engine.retry import Retry, RetryPolicy
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.events import outbox
from enricher.events.documents import (
    Document,
    failed,
    indexed,
    is_unindexed,
    replacement,
    started,
    succeeded,
)
from enricher.events.errors import NodeError, UnknownEvent
from enricher.events.settings import EventSettings
from enricher.system import Host
from enricher.texts import trace_of

_encode = msgspec.json.Encoder().encode


class Finished(msgspec.Struct, frozen=True):
    """What a pipeline has made of an event: its context as plain values, and effects of its nodes.

    ``documents`` {index: document} are to be indexed under the event's id.
    """

    context: Mapping[str, Any]
    effects: Sequence[Effect] = ()
    documents: Mapping[str, Mapping[str, Any]] = {}


class Pipelines(Protocol):
    """Runs the pipeline of an event."""

    async def __call__(self, event: Document, clients: Mapping[str, Any]) -> Finished:
        """Raises `NodeError` for what a node raised."""
        ...

    def documents(self, event: Document, clients: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """What is to be indexed of an event that has succeeded. Raises `NodeError`."""
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
            if context.attempt > 1:
                return ()  # it was there at the first attempt, and was deleted since
            raise UnknownEvent(id_)
        event = found[0]
        kept = outbox.kept(event, self._host.clock())
        if event["status"] == "SUCCESS":
            return self._completing(event, kept, context)
        if kept:
            self._host.emit(*self._once(event, kept))
        event = started(event, context.attempt, self._host.clock())
        self._host.emit(replacement(self._settings.collection, event), *self._result(event, None))
        try:
            finished = await self._pipelines(event, context.clients)
        except NodeError as error:
            raise self._failing(event, error, context.attempt) from error
        now_us, indices = self._host.clock(), finished.documents
        done = succeeded(event, finished.context, context.attempt, now_us, indices=indices)
        done = outbox.keeping(done, finished.effects)
        others = self._once(done, [*finished.effects, *self._result(done, finished.context)])
        indexing = self._indexing(done, indices, others)
        return [replacement(self._settings.collection, done), *indexing, *others]

    def _completing(self, event: Document, kept: Sequence[Effect], context: Context) -> Sequence[Effect]:
        """What may be missing of an event that has succeeded: its process ended then, or it was refused.

        Of most nothing is, and their entry was appended twice.
        """
        others = self._once(event, [*kept, *self._result(event, event["task_context"])])
        if not is_unindexed(event):
            return others
        return [*self._indexing(event, self._pipelines.documents(event, context.clients), others), *others]

    def _once(self, event: Document, effects: Sequence[Effect]) -> Sequence[Effect]:
        return outbox.once(f"{self._settings.stream}:{event['_id']}", event, effects)

    def _indexing(
        self, event: Document, documents: Mapping[str, Mapping[str, Any]], others: Sequence[Effect]
    ) -> Sequence[Effect]:
        """``event`` goes to its indices, and its document says what becomes of that.

        Should the server refuse it, what is visible of the ``others`` comes with the dead letter: the event
        has succeeded all the same.
        """

        def answered(error: str | None) -> Sequence[Effect]:
            after = indexed(event, error, self._host.clock())
            visible = [each for each in others if each.sink not in (DOCUMENTS, SEARCH)]
            kept = () if error is None else visible
            return [replacement(self._settings.collection, after), *kept]

        found = [Index(name, event["_id"], each, event["revision"]) for name, each in documents.items()]
        # The server's answers are about the whole of a write: one is told of them.
        return [*found[:-1], *(msgspec.structs.replace(each, answered=answered) for each in found[-1:])]

    def _failing(
        self, event: Document, error: NodeError, attempt: int, *, final: bool = False
    ) -> Failing:
        final = final or not isinstance(self._policy.decide(attempt, error.cause), Retry)
        # What will run again emits again.
        kept, emitted = (error.finished, error.effects) if self._settings.resume else ({}, ())
        after = failed(event, kept, error.node, error.cause, attempt, self._host.clock(), final=final)
        kind = type(error.cause)
        shown = {"exc_type": kind.__name__, "exc_message": [str(error)], "exc_module": kind.__module__}
        after = outbox.keeping(after, emitted)
        result = self._result(after, shown, trace_of(error.cause))
        effects = [replacement(self._settings.collection, after), *self._once(after, [*emitted, *result])]
        return Failing(error.cause, retrying=effects, failed=effects)

    def set_aside(self, event: Document, why: Exception) -> Sequence[Effect]:
        """The effects for an event of which a dead letter was made, and not by its pipeline."""
        return self._failing(event, NodeError("worker", why), event["attempts"], final=True).failed

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
