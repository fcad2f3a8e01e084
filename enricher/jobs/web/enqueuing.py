"""A job by the name of its class, with arguments: the form, and what it enqueues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from enricher.clock import from_text
from enricher.errors import ConfigError
from enricher.job_store import Enqueue, Request
from enricher.jobs.errors import BadArguments
from enricher.jobs.requests import Options, request, request_by_name
from enricher.jobs.web.reading import Reading
from enricher.web.requests import Refusal
from enricher.web.views import Asked, Done


class OfForm(msgspec.Struct, frozen=True):
    """What the form begins with."""

    task: str = ""
    args: str = ""
    kwargs: str = ""
    queue: str = ""


class KnownClass(msgspec.Struct, frozen=True):
    """A class that this process knows, what its `perform` takes, and its queue."""

    task: str
    takes: str
    queue: str


class Form(msgspec.Struct, frozen=True):
    """What can be enqueued, and to which queues."""

    classes: list[KnownClass]
    queues: list[str]


class NewJob(msgspec.Struct, frozen=True):
    """A job to be enqueued; ``args`` and ``kwargs`` may be JSON text too.

    It is due in ``delay`` seconds, or ``at`` a time (ISO 8601; without an offset it is local).
    """

    task: str
    args: list[Any] | str = ""
    kwargs: dict[str, Any] | str = ""
    queue: str = ""
    delay: Annotated[float, Meta(ge=0)] | None = None
    at: str = ""
    id: str = ""


class Enqueuing:
    """Answers about what can be enqueued, and enqueues."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def form(self, _: Asked[OfForm]) -> Form:
        definitions = self._reading.registry.definitions.values()
        known = [KnownClass(each.task, str(each.signature), each.queue) for each in definitions]
        return Form(sorted(known, key=lambda each: each.task), await self._reading.queues())

    async def enqueue(self, asked: Asked[NewJob]) -> Done:
        made = self.request(asked.parameters)
        (id_,) = await self._reading.ask(Enqueue((made,)))
        if id_ != made.id:
            return Done(f"not new: job {id_} holds the unique lock of this one", 0, to=f"jobs/{id_}")
        return Done(f"enqueued {id_}", to=f"jobs/{id_}")

    def request(self, new: NewJob) -> Request:
        """The job, checked against its class where that is known. Raises `Refusal` (422)."""
        args = _json(new.args, "args", list, "a JSON array, such as [7, \"x\"]")
        kwargs = _json(new.kwargs, "kwargs", dict, 'a JSON object, such as {"user_id": 7}')
        return self.made(new.task, args, kwargs, delay=new.delay, at=new.at, queue=new.queue, id=new.id)

    def made(
        self,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        at: str = "",
        known_only: bool = False,
        **given: Any,
    ) -> Request:
        """As `request`, of what was read. Raises `Refusal`: 422, or 404 for a class that is not known."""
        most = self._reading.section.max_payload
        definition = self._reading.registry.find(task)
        if definition is None and known_only:
            raise Refusal(404, f"Unknown task '{task}'")
        try:
            options = Options(
                delay=given.get("delay"),
                at=_moment(at),
                queue=given.get("queue") or None,
                id=given.get("id") or None,
            )
            if definition is None:
                return request_by_name(task, args, kwargs, options, max_payload=most)
            return request(definition, args, kwargs, options, max_payload=most)
        except (BadArguments, ConfigError) as error:
            raise Refusal(422, str(error)) from error


def _json(value: Any, name: str, kind: type, expected: str) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return kind()
    try:
        found = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Refusal(422, f"{name}: expected {expected}: {error}") from error
    if not isinstance(found, kind):
        raise Refusal(422, f"{name}: expected {expected}, got {value!r:.60}")
    return found


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return from_text(text)
    except ValueError as error:
        expected = "expected a time such as 2026-12-01T09:00 (local) or 2026-12-01T09:00Z"
        raise Refusal(422, f"at: {expected}, got {text!r:.60}") from error
