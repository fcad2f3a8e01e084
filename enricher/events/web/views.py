"""Events in the dashboard: listed, looked at with their pipeline, run again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from enricher.engine.effects import Append
from enricher.events.documents import STATUSES, is_unindexed, public, replacement, waiting_again
from enricher.events.errors import PipelineError
from enricher.events.http import cursor_of, read_cursor
from enricher.events.intake import EventIntake
from enricher.events.pipeline import graph_of
from enricher.events.registry import PipelineRegistry
from enricher.events.settings import EventSettings
from enricher.events.web.picture import Picture, picture
from enricher.system import Host
from enricher.web.requests import Refusal
from enricher.web.views import Action, Asked, Done, View


class EventQuery(msgspec.Struct, frozen=True):
    """Which events; ``before`` is the ``next`` of an earlier answer."""

    status: Literal["", "PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE"] = ""
    type: str = ""
    before: str = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class EventRow(msgspec.Struct, frozen=True):
    """An event in a list; ``took`` in s from its first attempt to its end."""

    id: str
    type: str
    status: str
    attempts: int
    created_at: datetime
    took: float | None
    error: str


class EventList(msgspec.Struct, frozen=True):
    """Events, newest first."""

    events: list[EventRow]
    next: str
    statuses: list[str]
    types: list[str]


class NodeOutput(msgspec.Struct, frozen=True):
    """What a node has found, and in how many seconds."""

    name: str
    output: Any
    seconds: float | None


class EventDetail(msgspec.Struct, frozen=True):
    """An event whole; ``picture`` is its pipeline's, None where there is none of its type any more."""

    row: EventRow
    data: Any
    nodes: list[NodeOutput]
    error: Mapping[str, Any] | None
    search: Mapping[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None
    picture: Picture | None
    retryable: bool


class EventScreens:
    """The views of events."""

    def __init__(self, settings: EventSettings, intake: EventIntake, host: Host) -> None:
        self._settings = settings
        self._intake = intake
        self._host = host

    def views(self) -> list[View | Action]:
        return [
            View(
                "events",
                self.listed,
                "Events, newest first.",
                query=EventQuery,
                menu="Events",
                template="enricher.events.web:events.html",
            ),
            View(
                "events/{id}",
                self.event,
                "An event, and what each node of its pipeline made of it.",
                within="Events",
                template="enricher.events.web:event.html",
            ),
            Action("events/{id}/retry", self.retry, "Run the pipeline of a failed event again."),
        ]

    async def listed(self, asked: Asked[EventQuery]) -> EventList:
        query = asked.parameters
        found = await self._intake.list(
            status=query.status or None,
            type=query.type or None,
            before=read_cursor(query.before) if query.before else None,
            limit=query.limit,
        )
        more = len(found) == query.limit
        last = cursor_of(found[-1]["created_at"], found[-1]["id"]) if more else ""
        types = sorted(PipelineRegistry.pipelines)
        return EventList([_row(event) for event in found], last, list(STATUSES), types)

    async def event(self, asked: Asked[Any]) -> EventDetail:
        event = public(await self._stored(asked))
        context = event["task_context"] or {}
        seconds = (context.get("metadata") or {}).get("seconds") or {}
        error = event["error"]
        return EventDetail(
            row=_row(event),
            data=event["data"],
            nodes=[
                NodeOutput(name, output, seconds.get(name))
                for name, output in (context.get("nodes") or {}).items()
            ],
            error=error,
            search=event.get("search"),
            started_at=event["started_at"],
            finished_at=event["finished_at"],
            picture=_picture(event["type"], context, error),
            retryable=event["status"] == "FAILURE" or (event["status"] == "SUCCESS" and is_unindexed(event)),
        )

    async def retry(self, asked: Asked[Any]) -> Done:
        """Let it wait again, unless it has changed since; its dead letter goes."""
        event = await self._stored(asked)
        append = Append(self._settings.stream, {b"id": event["_id"].encode()})
        if event["status"] == "FAILURE":
            again = waiting_again(event, self._host.clock())
            self._host.emit(replacement(self._settings.collection, again), append)
        elif event["status"] == "SUCCESS" and is_unindexed(event):
            self._host.emit(append)
        else:
            raise Refusal(409, f"an event that has failed was expected; this one is {event['status']}")
        await self._host.drop_dead_letters(self._settings.stream, "id", event["_id"])
        return Done("the event waits for its pipeline")

    async def _stored(self, asked: Asked[Any]) -> dict[str, Any]:
        found = await self._host.reader.find(
            self._settings.collection, {"_id": asked.path["id"]}, limit=1
        )
        if not found:
            raise Refusal(404, f"Event with id {asked.path['id']:.60} not found")
        return found[0]


def _row(event: Mapping[str, Any]) -> EventRow:
    began, ended = event["started_at"], event["finished_at"]
    return EventRow(
        id=event["id"],
        type=event["type"],
        status=event["status"],
        attempts=event["attempts"],
        created_at=event["created_at"],
        took=(ended - began).total_seconds() if began and ended else None,
        error=str((event["error"] or {}).get("message") or "")[:500],
    )


def _picture(kind: str, context: Mapping[str, Any], error: Mapping[str, Any] | None) -> Picture | None:
    pipeline = PipelineRegistry.pipelines.get(kind)
    if pipeline is None:
        return None
    try:
        return picture(graph_of(pipeline), context, (error or {}).get("node"))
    except PipelineError:
        return None
