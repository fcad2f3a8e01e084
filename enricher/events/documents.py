"""An event as it is stored, and what becomes of it. Pure: each step makes a new document.

``revision`` counts the steps, from the microsecond in which the event was accepted. So an older step never
replaces a newer one, and what is left of a deleted event (a search server remembers its version for a while)
is older than the event that is posted with its key again. Dates are aware, in UTC.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from enricher.engine.effects import Effect, Insert, Unindex, Upsert
from enricher.texts import trace_of

Status = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE"]
SearchStatus = Literal["pending", "indexed", "refused"]
Document = dict[str, Any]

STATUSES: tuple[Status, ...] = ("PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE")

_OWN = ("_id", "digest", "token", "outbox")
_EVENTS = uuid.uuid5(uuid.NAMESPACE_URL, "enricher:events")
_sorted_json = msgspec.json.Encoder(order="sorted").encode


def event_id(token: str, key: str | None) -> str:
    """The id of an event: the same for the same key of the same client; without a key a new one."""
    return str(uuid.uuid4() if key is None else uuid.uuid5(_EVENTS, f"{token}\n{key}"))


def digest(data: Any) -> str:
    """What tells one body from another, whatever the order of its keys."""
    return hashlib.sha256(_sorted_json(data)).hexdigest()


def pending(id_: str, kind: str, data: Any, *, token: str, now_us: int) -> Document:
    """An event that was accepted."""
    return {
        "_id": id_,
        "type": kind,
        "data": data,
        "status": "PENDING",
        "task_context": None,
        "attempts": 0,
        "error": None,
        "created_at": _date(now_us),
        "updated_at": _date(now_us),
        "started_at": None,
        "finished_at": None,
        "revision": now_us,
        "digest": digest(data),
        "token": token,
        "search": None,
    }


def started(event: Mapping[str, Any], attempt: int, now_us: int) -> Document:
    """Its pipeline runs."""
    at = event.get("started_at") or _date(now_us)
    return _next(event, now_us, status="STARTED", attempts=attempt, started_at=at)


def succeeded(
    event: Mapping[str, Any],
    context: Mapping[str, Any],
    attempt: int,
    now_us: int,
    *,
    indices: Iterable[str] = (),
) -> Document:
    """Its pipeline has returned ``context``, and it is to be found in these search ``indices``."""
    names = sorted(indices)
    return _next(
        event,
        now_us,
        status="SUCCESS",
        task_context=context,
        attempts=attempt,
        error=None,
        finished_at=_date(now_us),
        search={"status": "pending", "error": None, "indices": names} if names else None,
    )


def indexed(event: Mapping[str, Any], error: str | None, now_us: int) -> Document:
    """The search server has it in its indices, or never will, for this reason."""
    status: SearchStatus = "indexed" if error is None else "refused"
    return _next(event, now_us, search={**event["search"], "status": status, "error": error})


def is_unindexed(event: Mapping[str, Any]) -> bool:
    """Whether it should be in an index and, for all we know, is not."""
    search = event.get("search")
    return search is not None and search["status"] != "indexed"


def removals(event: Mapping[str, Any]) -> list[Unindex]:
    """What removes an event from the indices it is in, or may be in."""
    search = event.get("search")
    names = search["indices"] if search is not None else ()
    return [Unindex(name, event["_id"], event["revision"] + 1) for name in names]


def failed(
    event: Mapping[str, Any],
    context: Mapping[str, Any],
    node: str,
    error: Exception,
    attempt: int,
    now_us: int,
    *,
    final: bool,
) -> Document:
    """A node has failed; ``context`` has what had finished before, from which the next attempt goes on."""
    return _next(
        event,
        now_us,
        status="FAILURE" if final else "RETRY",
        task_context=context,
        attempts=attempt,
        error={
            "node": node,
            "type": type(error).__name__,
            "message": str(error),
            "traceback": trace_of(error),
            "at": _date(now_us),
        },
        finished_at=_date(now_us) if final else None,
    )


def waiting_again(event: Mapping[str, Any], now_us: int) -> Document:
    """Somebody wants it to be processed again."""
    return _next(event, now_us, status="PENDING", error=None, finished_at=None)


def insertion(
    collection: str,
    event: Document,
    on_stored: Callable[[Mapping[str, Any]], Sequence[Effect] | None],
) -> Insert:
    """Store an event that was accepted.

    If its id is there, ``on_stored`` is called with what is stored; it returns what becomes visible then.
    """
    return Insert(collection, event, on_stored)


def replacement(collection: str, event: Document) -> Upsert:
    """Store a later step of an event, unless it was deleted."""
    return Upsert(collection, event, guard="revision", create=False)


def public(event: Mapping[str, Any]) -> Document:
    """An event as clients see it."""
    shown = {name: value for name, value in event.items() if name not in _OWN}
    return {"id": event["_id"], **shown}


def _next(event: Mapping[str, Any], now_us: int, **changes: Any) -> Document:
    return {**event, **changes, "updated_at": _date(now_us), "revision": event["revision"] + 1}


def _date(us: int) -> datetime:
    # MongoDB keeps milliseconds.
    return datetime.fromtimestamp(us // 1000 / 1000, UTC)
