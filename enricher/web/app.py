"""The app: the pages of all systems, and one kind of answer for everything that goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from enricher.errors import SinkUnavailable
from enricher.log import log
from enricher.web.requests import Json

ALWAYS = frozenset({"/livez", "/readyz", "/healthcheck", "/metrics", "/scale"})
"""Paths that are answered also by a worker that stops."""


def application(pages: Sequence[BaseRoute], stopping: Callable[[], bool]) -> App:
    """An ASGI app of ``pages``, which may be mounted in another one."""
    inner = Starlette(
        routes=pages,
        exception_handlers={
            HTTPException: _refused,
            SinkUnavailable: _unavailable,
            Exception: _failed,
        },
    )
    inner.router.redirect_slashes = False
    return App(inner, stopping)


class App:
    """Refuses requests while ``stopping``, but for what probes and scrapers ask to the very end."""

    def __init__(self, inner: Starlette, stopping: Callable[[], bool]) -> None:
        self._inner = inner
        self._stopping = stopping

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and self._stopping() and path not in ALWAYS:
            headers = {"retry-after": "5"}
            refusal = Json({"detail": "the worker is stopping: try another one"}, 503, headers)
            await refusal(scope, receive, send)
            return
        await self._inner(scope, receive, send)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for these
    return Json({"detail": error.detail}, error.status_code, error.headers)


async def _unavailable(_: Request, error: Exception) -> Response:
    # Where the server is, is nobody's business out there.
    assert isinstance(error, SinkUnavailable)  # noqa: S101  it is registered for these
    return Json({"detail": f"{error.sink} is unreachable now; try again later"}, 503, {"retry-after": "5"})


async def _failed(request: Request, error: Exception) -> Response:
    log.error("request_failed", method=request.method, path=request.url.path, error=repr(error))
    return Json({"detail": "the request failed here; the log of the worker says why"}, 500)
