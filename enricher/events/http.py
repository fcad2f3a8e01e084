"""The endpoints of events: POST accepts one, GET tells what became of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from enricher.config import WebSettings
from enricher.events.documents import STATUSES, Document
from enricher.events.intake import Busy, KeyConflict, Unavailable
from enricher.events.settings import TASK, EventSettings
from enricher.events.types import InvalidEvent
from enricher.web.requests import Json, Refusal, body_of, client_of, is_foreign

_WINDOW = 300
_LONGEST_KEY = 255
_MOST_LISTED = 500
# Events are read so many at a time, and no more after so many bytes.
_AT_ONCE = 25
_LONGEST_PAGE = 4 * 1_048_576

_encode = msgspec.json.Encoder().encode


class Intake(Protocol):
    """What the endpoints work with; see `enricher.events.intake.EventIntake`."""

    async def accept(self, body: bytes, *, token: str = "", key: str | None = None) -> str: ...

    async def find(self, id_: str) -> Document | None: ...

    async def list(
        self,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[Document]: ...


class Endpoints:
    """POST and GET of /events. Who reads may use a token of the web app as well."""

    def __init__(self, intake: Intake, settings: EventSettings, web: WebSettings) -> None:
        self._intake = intake
        self._settings = settings
        self._readers = {**web.tokens, **settings.tokens} if settings.tokens else web.tokens
        self._body_timeout = web.body_timeout

    def routes(self) -> list[BaseRoute]:
        """The pages, with and without a slash at the end: a POST must not be redirected."""
        return [
            *(Route(path, self.post_or_list, methods=["POST", "GET"]) for path in ("/events", "/events/")),
            Route("/events/{id}", self.get, methods=["GET"]),
        ]

    async def post_or_list(self, request: Request) -> Response:
        """One page for both, or a refusal of other methods would name one of them alone."""
        return await (self.post if request.method == "POST" else self.list)(request)

    async def post(self, request: Request) -> Response:
        """Accept an event: 202 once it is stored."""
        if not (self._settings.tokens or self._settings.secrets) and is_foreign(request):
            raise Refusal(403, "a page of another site sends this: without events.tokens that is refused")
        client = client_of(request, self._settings.tokens)
        key = request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            raise Refusal(422, f"an Idempotency-Key of 1 to {_LONGEST_KEY} characters was expected")
        body = await body_of(request, self._settings.max_body, self._body_timeout)
        if self._settings.secrets:
            signed = signer(request, body, self._settings.secrets)
            client = client or signed
        try:
            id_ = await self._intake.accept(body, token=client, key=key)
        except InvalidEvent as error:
            raise Refusal(422, error.details) from error
        except KeyConflict as error:
            text = f"Expected {error.expected}"
            conflict = {"type": "idempotency_key_conflict", "loc": error.loc, "msg": text}
            raise Refusal(422, [conflict]) from error
        except Busy as error:
            raise Refusal(429, str(error), retry_after=str(error.retry_after)) from error
        except Unavailable as error:
            raise Refusal(503, str(error), retry_after=str(error.retry_after)) from error
        return Json({"message": f"{TASK} started `{id_}`"}, 202)

    async def get(self, request: Request) -> Response:
        """What became of an event."""
        client_of(request, self._readers)
        id_ = request.path_params["id"]
        event = await self._intake.find(id_)
        if event is None:
            raise Refusal(404, f"Event with id {id_:.60} not found")
        return Json(event)

    async def list(self, request: Request) -> Response:
        """Events, newest first, a page at a time; a page of large ones ends early."""
        client_of(request, self._readers)
        asked = request.query_params
        for name in asked:
            if name not in ("status", "type", "before", "limit"):
                raise Refusal(422, f"status, type, before or limit was expected, got {name!r:.60}")
        status = asked.get("status", "").upper() or None
        if status is not None and status not in STATUSES:
            raise Refusal(422, f"a status of {', '.join(STATUSES)} was expected, got {asked['status']!r:.60}")
        limit = asked.get("limit", "50")
        if not limit.isdecimal() or len(limit) > 3 or not 0 < int(limit) <= _MOST_LISTED:
            raise Refusal(422, f"a limit from 1 to {_MOST_LISTED} was expected, got {limit!r:.60}")
        cursor = asked.get("before")
        before = None if cursor is None else read_cursor(cursor)
        most, kind = int(limit), asked.get("type")
        shown: list[msgspec.Raw] = []
        size, following = 0, True
        while following and len(shown) < most and size < _LONGEST_PAGE:
            wanted = min(_AT_ONCE, most - len(shown))
            found = await self._intake.list(status=status, type=kind, before=before, limit=wanted)
            for event in found:
                shown.append(msgspec.Raw(_encode(event)))
                size += len(shown[-1])
                before = event["created_at"], event["id"]
            following = len(found) == wanted
        return Json({"events": shown, "next": cursor_of(*before) if following and before else None})

def signer(request: Request, body: bytes, secrets: Mapping[str, str]) -> str:
    """The name of who signed a request: HMAC-SHA256 over ``{X-Timestamp}.{body}``, not older than 5 minutes.

    The same signed request is good more than once in that time: it is the same event only with a key.
    Raises `Refusal` (401).
    """
    stamp, given = request.headers.get("x-timestamp", ""), request.headers.get("x-signature", "")
    if not stamp.isdecimal() or len(stamp) > 12 or abs(time.time() - int(stamp)) > _WINDOW:
        expected = f"a header X-Timestamp with seconds since 1970, not {_WINDOW} s from now, was expected"
        raise Refusal(401, expected)
    found = ""
    for name, secret in secrets.items():
        right = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(given.encode("utf-8", "replace"), f"sha256={right}".encode()):
            found = name
    if not found:
        raise Refusal(401, "a header 'X-Signature: sha256=HMAC of {X-Timestamp}.{body}' was expected")
    return found


def cursor_of(at: datetime, id_: str) -> str:
    """Where a list goes on after an event: when it was created, and its id."""
    return base64.urlsafe_b64encode(f"{round(at.timestamp() * 1000)} {id_}".encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises `Refusal` for what is none."""
    try:
        at, _, id_ = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromtimestamp(int(at) / 1000, UTC), id_
    except (binascii.Error, ValueError, OverflowError, OSError):
        raise Refusal(422, f"the 'next' of an earlier answer was expected, got {cursor!r:.60}") from None
