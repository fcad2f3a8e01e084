"""Who may ask: tokens, the session of a browser, and that no other page asks in its name.

A browser that has shown a token gets a session: a cookie that says who it is and until when, signed with the
token. An action from a page carries the value of a second cookie, which other sites cannot read. The names of
both have the port in them, for a browser keeps one set of cookies for all ports of a host.

A page of another site must not read anything by a name of its own that resolves to this machine (DNS
rebinding). Without tokens only names of this machine are answered to. With tokens any name will do, for such
a page has none; what needs none is told without one only by an address, or a name that nobody out there can
have.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Collection
from typing import cast
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from enricher.config import WebSettings
from enricher.web.requests import Refusal, client_of, is_foreign

SESSION = "enricher_session"
CSRF = "enricher_csrf"
CSRF_HEADER = "x-csrf-token"
NOBODY = "this machine"
"""Who asks where no tokens are asked for."""

_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_DAY = 24 * 3600
_SEPARATOR = "|"
_CSRF_BYTES = 18
_OURS = re.compile(r"[A-Za-z0-9_-]{24}")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d{0,5}))?", re.ASCII)
# Names within a container's, a cluster's or a home's network. No public name ends like this.
_PRIVATE = re.compile(r"[^.]+|.+\.(svc|svc\.cluster\.local|internal|local)")


class NoSession(Refusal):
    """A browser has to show a token first."""

    def __init__(self) -> None:
        super().__init__(401, "a header 'Authorization: Bearer TOKEN' or a session was expected")


class Guard:
    """Lets requests pass, or raises `Refusal`; ``settings`` are those of the web app."""

    def __init__(self, settings: WebSettings) -> None:
        self._tokens = settings.tokens
        self._read_only = settings.read_only
        named = frozenset(name.lower() for name in settings.hosts)
        self._hosts: Collection[str] = named or (() if settings.tokens else _OWN_NAMES)

    def who(self, request: Request) -> str:
        """The name of who asks. Raises `Refusal`: 403 for a foreign host, 401 without token or session."""
        self._check_host(request)
        if not self._tokens:
            return NOBODY
        if "authorization" in request.headers:
            return client_of(request, self._tokens)
        name = self._in_session(cookie(request, SESSION))
        if not name:
            raise NoSession
        return name

    def guarded(self, route: Route, *, is_open: bool) -> Route:
        """A route that only those who may ask get an answer from; an open one is also told to neighbours."""

        async def answer(request: Request) -> Response:
            if not (is_open and self._of_neighbour(request)):
                self.who(request)
            return cast("Response", await route.endpoint(request))

        return Route(route.path, answer, methods=list(route.methods or ()))

    def check_action(self, request: Request, given: str) -> None:
        """Whether an action comes from a page of ours, or from no page at all.

        ``given`` is what the request carries as proof that it could read the cookie. Raises `Refusal` (403).
        """
        if self._read_only:
            raise Refusal(403, "nothing can be changed here: web.read_only is set")
        self.check_page(request)
        from_program = "authorization" in request.headers or (
            "origin" not in request.headers and not self._tokens
        )
        if from_program and request.headers.get("content-type", "").startswith("application/json"):
            return
        right = cookie(request, CSRF)
        if not right or not hmac.compare_digest(right.encode(), given.encode("utf-8", "replace")):
            raise Refusal(403, "the page is too old, or not of this app: load it again")

    def check_page(self, request: Request) -> None:
        """Whether a page of ours sends this, or no page at all. Raises `Refusal` (403)."""
        self._check_host(request)
        if is_foreign(request):
            raise Refusal(403, "a request of this app's own pages was expected, not of another site's")

    def log_in(self, request: Request, token: str) -> str:
        """The value of a session for whoever has this token, "" for a wrong one. Raises `Refusal` (403)."""
        self.check_page(request)
        given, found = token.strip().encode("utf-8", "replace"), ""
        for name, right in self._tokens.items():
            if hmac.compare_digest(given, right.encode()):
                found = name
        return self._signed(found, int(time.time()) + _DAY) if found else ""

    def _check_host(self, request: Request) -> None:
        if self._hosts and _host_of(request)[0] not in self._hosts:
            raise _foreign()

    def _of_neighbour(self, request: Request) -> bool:
        """Whether the Host is one of ours, an address, or where others reach us a private name.

        Without any it is no browser that asks.
        """
        name = _host_of(request)[0]
        known = name in self._hosts or not name or _is_address(name)
        return known or bool(self._tokens and _PRIVATE.fullmatch(name))

    def _in_session(self, value: str) -> str:
        said, _, rest = value.partition(_SEPARATOR)
        name, until = unquote(said), rest.partition(_SEPARATOR)[0]
        if name not in self._tokens or not until.isdecimal() or len(until) > 12 or int(until) < time.time():
            return ""
        right = self._signed(name, int(until))
        return name if hmac.compare_digest(right.encode(), value.encode("utf-8", "replace")) else ""

    def _signed(self, name: str, until: int) -> str:
        # A cookie is ASCII; a name is any text.
        said = f"{quote(name, safe='')}{_SEPARATOR}{until}"
        seal = hmac.new(self._tokens[name].encode(), said.encode(), hashlib.sha256).hexdigest()
        return f"{said}{_SEPARATOR}{seal}"


def _foreign() -> Refusal:
    return Refusal(403, "a name of this app was expected as Host: see web.hosts")


def _host_of(request: Request) -> tuple[str, str]:
    """The Host as its name, in small letters and without brackets, and its port, "" without one.

    Raises `Refusal` (403) for what is neither.
    """
    found = _HOST.fullmatch(request.headers.get("host", "").lower())
    if found is None:
        raise _foreign()
    return found[1].strip("[]"), found[2] or ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _named(request: Request, name: str) -> str:
    port = _host_of(request)[1]
    return f"{name}_{port}" if port else name


def cookie(request: Request, name: str) -> str:
    """The value of a cookie that `set_cookie` has set, "" without one."""
    return request.cookies.get(_named(request, name), "")


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that no script reads and no other site sends; an empty value ends it."""
    response.set_cookie(
        _named(request, name),
        value,
        max_age=_DAY if value else 0,
        path=request.scope.get("root_path", "") or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def csrf_of(request: Request) -> str:
    """The value that the actions of a page carry: that of the browser's cookie, else a new one."""
    kept = cookie(request, CSRF)
    return kept if _OURS.fullmatch(kept) else secrets.token_urlsafe(_CSRF_BYTES)
