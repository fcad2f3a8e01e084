"""How an event is accepted: checked, stored as PENDING in one commit, then appended to the stream by its id.

Who was told that it is accepted has it in MongoDB. If Redis is away then, or the process ends between the
two, the sweep appends it later.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import anyio
import msgspec

from enricher.engine.effects import DOCUMENTS, LIVE, Append, DeadLetter, Effect
from enricher.engine.router import Context
from enricher.errors import BadMessage, EnricherError, Overloaded, SinkUnavailable
from enricher.events.documents import Document, event_id, insertion, pending, public
from enricher.events.settings import ACCEPT, TOPIC, EventSettings
from enricher.events.types import Checked, EventTypes
from enricher.system import Host
from enricher.texts import as_bytes, as_text, from_json


class KeyConflict(BadMessage):
    """Another event was sent with this key; ``loc`` says where the key is, as clients of FastAPI know it.

    ``pointer`` leads to a key that is in the body.
    """

    def __init__(self, key: str, pointer: str | None = None) -> None:
        names = _names(pointer) if pointer else []
        self.loc = ["body", *names] if names else ["header", "Idempotency-Key"]
        expected = f"the body that was sent with key {key[:_SHOWN]!r} before, or another key"
        super().__init__(".".join(["$", *names]), expected, "another body")


class Busy(EnricherError):
    """Too many events wait; ``retry_after`` in seconds."""

    def __init__(self, waiting: int, most: int) -> None:
        self.retry_after = 5
        super().__init__(f"{waiting} events wait, and events.max_waiting is {most}: try again later")


class Unavailable(EnricherError):
    """The event cannot be stored now; ``retry_after`` in seconds."""

    def __init__(self, why: str) -> None:
        self.retry_after = 5
        super().__init__(why)


_SHOWN = 60
_MOST_AT_ONCE = 10_000  # that wait in memory to be appended
_DELIVERY = "\n"  # instead of a client's name, which is none


class Entry(msgspec.Struct, frozen=True):
    """An event that came by a route, and its key if it has one."""

    checked: Checked
    key: str | None = None


def read_entry(body: bytes) -> tuple[bytes, str | None]:
    """The fields ``body`` and ``key`` of an entry, which is ``body``: a JSON object. Raises `BadMessage`."""
    fields = msgspec.json.decode(body, type=dict[str, Any])
    if "body" not in fields:
        names = ", ".join(sorted(fields)) or "no fields"
        raise BadMessage("$.body", "a field 'body' with an event as JSON", f"an entry with {names}")
    key = as_text(from_json(fields["key"])) if "key" in fields else ""
    return as_bytes(from_json(fields["body"])), key or None


def _names(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def pointed(data: Any, pointer: str) -> str | None:
    """The value at a JSON pointer (RFC 6901) as a key; None if there is none."""
    value = data
    for name in _names(pointer):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return None if value is None or isinstance(value, dict | list) else str(value)


class EventIntake:
    """Accepts events, over HTTP or by the route `events`, and tells what became of them.

    ``waiting`` says how many events of the stream are not processed yet.
    """

    def __init__(
        self, settings: EventSettings, types: EventTypes, host: Host, waiting: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._types = types
        self._host = host
        self._waiting = waiting
        self._accepted: tuple[int, int] = (0, 0)  # since which second, and how many since then
        self._late = False  # whether the last one was not stored in time

    # -- over HTTP ---------------------------------------------------------------------------------

    async def accept(self, body: bytes, *, token: str = "", key: str | None = None) -> str:
        """The id of the event, which is stored then; the first one's for a repeated key.

        Raises `InvalidEvent`, `KeyConflict`, `Busy`, and `Unavailable` after ``events.accept_timeout``.
        """
        checked = self._types.read(body)
        if self._late and DOCUMENTS in self._host.outages:
            raise Unavailable("events cannot be stored now: MongoDB is unreachable; try again later")
        waiting = self._waiting() + self._recently()
        if waiting >= self._settings.max_waiting:
            raise Busy(waiting, self._settings.max_waiting)
        event = self._event(checked, token, key)
        stored: list[Mapping[str, Any]] = []
        insert = insertion(self._settings.collection, event, lambda found: stored.append(found))
        try:
            with anyio.fail_after(self._settings.accept_timeout):
                await self._host.commit(TOPIC, body, insert)
        except TimeoutError:
            # What comes meanwhile would wait as long, and all of it in memory.
            self._late = True
            seconds = self._settings.accept_timeout
            why = f"not stored within {seconds:g} s: send it again, with the same Idempotency-Key"
            raise Unavailable(why) from None
        except Overloaded as error:
            raise Unavailable(str(error)) from error
        except SinkUnavailable as error:
            raise Unavailable("events cannot be stored now; try again later") from error
        self._late = False
        for before in stored:
            if before.get("digest") != event["digest"]:
                raise self._conflict(checked, key)
        if not stored:
            self._append_soon(event["_id"])
        return str(event["_id"])

    def _append_soon(self, id_: str) -> None:
        self._count()
        if self._recently() > _MOST_AT_ONCE and LIVE in self._host.outages:
            return  # the sweep appends it; here it would wait in memory
        # Nobody commits anything after a stop; it is stored, and the sweep of another worker appends it.
        with suppress(EnricherError):
            self._host.emit(self._append(id_))

    def _count(self) -> None:
        second = int(time.monotonic())
        if self._accepted[0] < second and LIVE not in self._host.outages:
            self._accepted = (second, 0)
        self._accepted = (self._accepted[0], self._accepted[1] + 1)

    def _recently(self) -> int:
        """How many were accepted that the figures of the stream do not have: they are a second old."""
        known = self._accepted[0] < int(time.monotonic()) - 1 and LIVE not in self._host.outages
        return 0 if known else self._accepted[1]

    # -- by routes ---------------------------------------------------------------------------------

    def decode(self, body: bytes, _: Context) -> Entry:
        """An event as `submit` brings it. Raises `InvalidEvent`."""
        return Entry(self._types.read(body))

    def decode_entry(self, body: bytes, _: Context) -> Entry:
        """An event as a stream brings it. Raises `BadMessage`."""
        data, key = read_entry(body)
        if len(data) > self._settings.max_body:
            expected = f"at most {self._settings.max_body} bytes (events.max_body)"
            raise BadMessage("$.body", expected, f"{len(data)} bytes")
        return Entry(self._types.read(data), key)

    def handle(self, entry: Entry, context: Context) -> Sequence[Effect]:
        """The effects of an event that came by a route."""
        event = self._event(entry.checked, "", entry.key, context.id)
        append = self._append(event["_id"])
        is_same = event["_id"] == event_id(_DELIVERY, context.id)

        def known(stored: Mapping[str, Any]) -> Sequence[Effect] | None:
            if stored.get("digest") != event["digest"]:
                # After a stop the acknowledgement is not written either: the entry comes again.
                with suppress(EnricherError):
                    self._host.emit(self._set_aside(self._conflict(entry.checked, entry.key), context))
            # Its own entry comes again: the append is written with the acknowledgement, so it was not yet.
            return [append] if is_same else None

        return [insertion(self._settings.collection, event, known), append]

    # -- what became of them -----------------------------------------------------------------------

    async def find(self, id_: str) -> Document | None:
        """An event as clients see it. Raises `SinkUnavailable`."""
        found = await self._host.reader.find(self._settings.collection, {"_id": id_}, limit=1)
        return public(found[0]) if found else None

    async def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[Document]:
        """Events, newest first; ``before`` is when the last one seen was created, and its id.

        Raises `SinkUnavailable`.
        """
        query: dict[str, Any] = {}
        if status is not None:
            query["status"] = status
        if type is not None:
            query["type"] = type
        if before is not None:
            at, id_ = before
            query["$or"] = [{"created_at": {"$lt": at}}, {"created_at": at, "_id": {"$lt": id_}}]
        order = [("created_at", -1), ("_id", -1)]
        found = await self._host.reader.find(self._settings.collection, query, sort=order, limit=limit)
        return [public(event) for event in found]

    # ----------------------------------------------------------------------------------------------

    def _event(self, checked: Checked, token: str, key: str | None, delivery: str = "") -> Document:
        key = self._key(checked, key)
        # What a stream brings again after a crash is the same event.
        id_ = event_id(_DELIVERY, delivery) if key is None and delivery else event_id(token, key)
        return pending(id_, checked.type, checked.data, token=token, now_us=self._host.clock())

    def _key(self, checked: Checked, sent: str | None) -> str | None:
        """The key of an event: the one that was ``sent`` with it, else the one in its body."""
        inside = self._settings.identity if sent is None else None
        return pointed(checked.data, inside) if inside else sent

    def _conflict(self, checked: Checked, sent: str | None) -> KeyConflict:
        return KeyConflict(str(self._key(checked, sent)), self._settings.identity if sent is None else None)

    def _set_aside(self, why: KeyConflict, context: Context) -> DeadLetter:
        # An entry that comes again gives the same one.
        task_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{context.topic}\n{context.id}"))
        return DeadLetter(
            task_id=task_id,
            task_name=ACCEPT,
            topic=context.topic,
            key=None,
            body=context.body,
            stage="enrich",
            error=str(why),
            error_type=type(why).__name__,
            path=why.path,
            traceback="",
            attempts=context.attempt,
            first_us=context.now_us,
            last_us=self._host.clock(),
        )

    def _append(self, id_: str) -> Append:
        return Append(self._settings.stream, {b"id": id_.encode()})
