"""The routes of views and actions: JSON for programs, screens for people, each behind the guard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, get_origin
from urllib.parse import parse_qs

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from enricher.errors import SinkUnavailable
from enricher.log import log
from enricher.web.guard import CSRF, CSRF_HEADER, SESSION, Guard, NoSession, csrf_of, set_cookie
from enricher.web.openapi import document
from enricher.web.pulse import Pulse
from enricher.web.requests import Json, Refusal, body_of
from enricher.web.shell import Shell
from enricher.web.views import Action, Asked, Done, View
from enricher.web.watched import Watched

Handler = Callable[[Request], Awaitable[Response]]

_MOST = 1_048_576
"""Bytes of a form or of the JSON of an action."""
_MOST_WATCHERS = 100

_STATIC = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# What a program gets is nothing for the pages of other sites.
_UNSHARED = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
_SAFE = {
    **_UNSHARED,
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Dashboard:
    """The screens and the API of ``views`` and ``actions``."""

    def __init__(
        self,
        views: Sequence[View],
        actions: Sequence[Action],
        guard: Guard,
        pulse: Pulse,
        *,
        service: str,
        body_timeout: float,
        read_only: bool,
    ) -> None:
        self._views = views
        self._actions = actions
        self._guard = guard
        self._pulse = pulse
        self._body_timeout = body_timeout
        self._shell = Shell(views, service=service, read_only=read_only)
        self._files = _static_files()

    def routes(self) -> list[BaseRoute]:
        """The routes, those of fixed paths first."""
        routes: list[BaseRoute] = [
            Route("/", self._home),
            Route("/ui", self._home),
            Route("/ui/", self._home),
            Route("/ui/static/{name}", self._static),
            Route("/ui/log-in", self._screen(self._log_in_screen), methods=["GET"]),
            Route("/ui/log-in", self._screen(self._log_in), methods=["POST"]),
            Route("/ui/log-out", self._screen(self._log_out), methods=["POST"]),
            Route("/ui/pulse", self._follow),
            Route("/api/v1/openapi.json", self._document),
        ]
        for view in sorted(self._views, key=lambda each: "{" in each.path):
            routes.append(Route(api_path(view.path), partial(self._answer, view), methods=["GET"]))
            if view.template:
                routes.append(
                    Route(f"/ui/{view.path}", self._screen(partial(self._show, view)), methods=["GET"])
                )
        for action in sorted(self._actions, key=lambda each: "{" in each.path):
            routes.append(Route(api_path(action.path), partial(self._order, action), methods=["POST"]))
            if not action.path.startswith("/"):
                routes.append(
                    Route(f"/ui/{action.path}", partial(self._submitted, action), methods=["POST"])
                )
        routes.append(Route("/ui/{path:path}", self._screen(self._nothing), methods=["GET"]))
        return routes

    # -- programs ----------------------------------------------------------------------------------

    async def _answer(self, view: View, request: Request) -> Response:
        asked = self._asked(request, view.query, dict(request.query_params))
        return Json(await view.answer(asked), headers=_UNSHARED)

    async def _order(self, action: Action, request: Request) -> Response:
        who = self._guard.who(request)
        self._check(action, request, request.headers.get(CSRF_HEADER, ""))
        body = await body_of(request, _MOST, self._body_timeout)
        try:
            parameters = msgspec.json.decode(body or b"{}", type=action.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(422, str(error)) from error
        except RecursionError as error:
            raise Refusal(422, "fewer levels of nesting were expected") from error
        return Json(await self._do(action, Asked(parameters, request.path_params, who)))

    async def _document(self, request: Request) -> Response:
        self._guard.who(request)
        root = request.scope.get("root_path", "")
        return Json(document(self._views, self._actions, root))

    # -- people ------------------------------------------------------------------------------------

    def _screen(self, answer: Handler) -> Handler:
        """With what is wrong as a screen, and headers that let a browser do nothing but what is ours."""

        async def handle(request: Request) -> Response:
            try:
                response = await answer(request)
            except NoSession:
                response = RedirectResponse(self._shell.log_in_path(request), 303)
            except HTTPException as error:
                response = self._refused(request, error.status_code, error.detail)
            except SinkUnavailable as error:
                detail = f"{error.sink} is unreachable now. Load the page again in a moment."
                response = self._refused(request, 503, detail)
            response.headers.update(_SAFE)
            return response

        return handle

    async def _nothing(self, request: Request) -> Response:
        self._guard.who(request)
        raise HTTPException(404, "There is no such page. A system has its pages where it is on.")

    def _refused(self, request: Request, status: int, detail: Any) -> Response:
        """What went wrong; who may see the menu still has it."""
        try:
            who = self._guard.who(request)
        except HTTPException:
            who = ""
        return self._shell.error(request, status, detail, who)

    async def _show(self, view: View, request: Request) -> Response:
        parameters = {name: value for name, value in request.query_params.items() if value}
        asked = self._asked(request, view.query, parameters)
        answer = await view.answer(asked)
        csrf = csrf_of(request)
        response = self._shell.screen(request, view, asked, answer, csrf)
        set_cookie(request, response, CSRF, csrf)
        return response

    async def _submitted(self, action: Action, request: Request) -> Response:
        """An action of a form: what came of it is shown by the page it was on."""
        try:
            who = self._guard.who(request)
            fields = _of_form(await body_of(request, _MOST, self._body_timeout))
            self._check(action, request, request.headers.get(CSRF_HEADER, ""))
            parameters = _converted(fields, action.body)
            done = await self._do(action, Asked(parameters, request.path_params, who))
        except HTTPException as error:
            return self._shell.toast(error.status_code, error.detail)
        except SinkUnavailable as error:
            return self._shell.toast(503, f"{error.sink} is unreachable now; try again later")
        return self._shell.done(request, done)

    async def _home(self, request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/ui/overview", 307)

    async def _log_in_screen(self, request: Request) -> Response:
        return self._shell.log_in(request)

    async def _log_in(self, request: Request) -> Response:
        fields = _of_form(await body_of(request, 4096, self._body_timeout))
        session = self._guard.log_in(request, str(fields.get("token", "")))
        if not session:
            log.warning("log_in_refused", client=request.client.host if request.client else "")
            return self._shell.log_in(request, wrong=True)
        response = RedirectResponse(f"{request.scope.get('root_path', '')}/ui/overview", 303)
        set_cookie(request, response, SESSION, session)
        return response

    async def _log_out(self, request: Request) -> Response:
        self._guard.check_page(request)
        response = RedirectResponse(self._shell.log_in_path(request), 303)
        set_cookie(request, response, SESSION, "")
        return response

    async def _follow(self, request: Request) -> Response:
        self._guard.who(request)
        self._guard.check_page(request)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if self._pulse.watchers >= _MOST_WATCHERS:
            raise Refusal(503, f"{_MOST_WATCHERS} pages watch already", retry_after="10")
        return Watched(self._pulse)

    async def _static(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise Refusal(404, "no such file")
        content, kind = found
        headers = {"x-content-type-options": "nosniff"}
        # The name of a file carries what is in it, so that a browser need not ask again.
        headers["cache-control"] = "max-age=31536000, immutable" if request.url.query else "no-cache"
        return Response(content, media_type=kind, headers=headers)

    # -- both --------------------------------------------------------------------------------------

    def _asked(self, request: Request, query: type[Any], parameters: Mapping[str, str]) -> Asked[Any]:
        who = self._guard.who(request)
        return Asked(_converted(parameters, query), request.path_params, who)

    def _check(self, action: Action, request: Request, given: str) -> None:
        if not action.safe:
            self._guard.check_action(request, given)

    async def _do(self, action: Action, asked: Asked[Any]) -> Any:
        done = await action.do(asked)
        if not action.safe:
            number = done.number if isinstance(done, Done) else None
            fields = {**asked.path, "who": asked.who, "what": action.path, "number": number}
            log.info("action", **fields)
        return done


def api_path(path: str) -> str:
    """Where the JSON of a view or an action is."""
    return path if path.startswith("/") else f"/api/v1/{path}"


def _of_form(body: bytes) -> dict[str, Any]:
    """The fields that were filled in; one that is there several times is a list. Raises `Refusal` (422)."""
    try:
        fields = parse_qs(body.decode(), max_num_fields=1000)
    except ValueError as error:
        raise Refusal(422, f"the fields of a form were expected: {error}") from error
    return {name: values if len(values) > 1 else values[0] for name, values in fields.items()}


def _converted(fields: Mapping[str, Any], kind: type[Any]) -> Any:
    """Text as the types of a struct; one value is good for a list. Raises `Refusal` (422)."""
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name in fields:
        if name not in known:
            expected = ", ".join(known) or "no parameter"
            raise Refusal(422, f"{expected} was expected, got {name!r:.60}")
    lists = {name for name, field in known.items() if get_origin(field.type) in (list, tuple)}
    given = {name: [v] if name in lists and isinstance(v, str) else v for name, v in fields.items()}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(422, str(error)) from error


def _static_files() -> dict[str, tuple[bytes, str]]:
    folder = files("enricher.web") / "static"
    found = {}
    for each in folder.iterdir():
        kind = _STATIC.get(f".{each.name.rpartition('.')[2]}")
        if kind is not None:
            found[each.name] = each.read_bytes(), kind
    return found
