"""Requests as the endpoints of systems need them: bodies within bounds, tokens, and why one is refused."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

THROWN_AWAY = 1_048_576
"""Bytes that are read of what nobody wants: a client reads no answer while it writes."""

_encode = msgspec.json.Encoder().encode


class Refusal(HTTPException):
    """A request is answered with ``status`` and a JSON object ``{"detail": ...}``."""

    def __init__(self, status: int, detail: Any, **headers: str) -> None:
        super().__init__(status, detail, {name.replace("_", "-"): value for name, value in headers.items()})


class Json(Response):
    """An answer in JSON; dates are ISO 8601."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else _encode(content)


async def body_of(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request.

    Raises `Refusal` while reading: 413 over ``most`` bytes, 408 after ``seconds``.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > most + THROWN_AWAY:
        raise _too_large(most, said)
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(seconds):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > most + THROWN_AWAY:
                    break
        if size > most:
            raise _too_large(most, f"{size} or more")
    except TimeoutError:
        raise Refusal(408, f"the body did not come in within {seconds:g} s", connection="close") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection was closed before the end of the body") from None
    return b"".join(parts)


def is_foreign(request: Request) -> bool:
    """Whether a page of another site sends this; a program's request is no page's."""
    origin = request.headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host", "")
    return foreign or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def _too_large(most: int, found: str) -> Refusal:
    return Refusal(413, f"a body of at most {most} bytes was expected, got {found}", connection="close")


def client_of(request: Request, tokens: Mapping[str, str]) -> str:
    """The name of the client whose bearer token a request carries, "" where no tokens are asked for.

    Every token is compared, in constant time. Raises `Refusal` (401).
    """
    if not tokens:
        return ""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    given, found = token.strip().encode("utf-8", "replace"), ""
    for name, right in tokens.items():
        if hmac.compare_digest(given, right.encode()):
            found = name
    if kind.lower() != "bearer" or not found:
        detail = "a header 'Authorization: Bearer TOKEN' with a known token was expected"
        raise Refusal(401, detail, www_authenticate="Bearer")
    return found
