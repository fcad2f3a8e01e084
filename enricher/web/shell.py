"""The frame around every screen: menu, messages, what went wrong. It knows no system by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from enricher.web.formats import FILTERS, FUNCTIONS
from enricher.web.views import Asked, Done, View

_encode = msgspec.json.Encoder().encode


class Shell:
    """Renders screens. ``views`` make up the menu, ``service`` is the name in its head."""

    def __init__(self, views: Sequence[View], *, service: str, read_only: bool) -> None:
        self._menu = [(view.menu, view.path) for view in views if view.menu]
        self._templates = Environment(
            loader=FunctionLoader(_source),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals |= {
            "service": service,
            "read_only": read_only,
            "static": _static(),
            **FUNCTIONS,
        }

    def screen(
        self, request: Request, view: View, asked: Asked[Any], answer: Any, csrf: str
    ) -> HTMLResponse:
        """A view's answer in its template: its fields by name, and ``asked`` as the page needs it."""
        fields = (
            {name: getattr(answer, name) for name in answer.__struct_fields__}
            if isinstance(answer, msgspec.Struct)
            else dict(answer)
        )
        context = {
            "query": asked.parameters,
            "path": asked.path,
            **fields,
            "answer": answer,
            "who": asked.who,
            "csrf": csrf,
        }
        return self._render(request, view.template, context, menu=view.menu or view.within)

    def error(self, request: Request, status: int, detail: Any, who: str = "") -> HTMLResponse:
        """What went wrong, as a screen, with the menu if it is known ``who`` asks."""
        text = detail if isinstance(detail, str) else _encode(detail).decode()
        context = {"status": status, "detail": text, "who": who, "csrf": ""}
        return self._render(request, "enricher.web:error.html", context, status=status)

    def log_in(self, request: Request, *, wrong: bool = False) -> HTMLResponse:
        """Asks for a token."""
        context = {"wrong": wrong, "who": "", "csrf": ""}
        return self._render(request, "enricher.web:log_in.html", context, status=401 if wrong else 200)

    def log_in_path(self, request: Request) -> str:
        return f"{request.scope.get('root_path', '')}/ui/log-in"

    def done(self, request: Request, done: Any) -> Response:
        """What an action has done: a message, and the page asks again or another one is shown."""
        text = done.message if isinstance(done, Done) else "done"
        headers = _toast(text, "good") if not isinstance(done, Done) or not done.to else {}
        if isinstance(done, Done) and done.to:
            # What is in it may come from a request.
            to = quote(done.to, safe="/?&=%#:,@+~!$'()*;[]")
            headers["hx-redirect"] = f"{request.scope.get('root_path', '')}/ui/{to}"
        return Response(status_code=204, headers=headers)

    def toast(self, status: int, detail: Any) -> Response:
        """Why an action was refused."""
        text = detail if isinstance(detail, str) else _encode(detail).decode()
        return Response(status_code=status, headers=_toast(text, "bad"))

    def _render(
        self,
        request: Request,
        template: str,
        context: Mapping[str, Any],
        *,
        menu: str = "",
        status: int = 200,
    ) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        text = self._templates.get_template(template).render(
            context,
            root=root,
            here=here,
            menu=self._menu,
            current=menu,
            now=datetime.now(UTC),
        )
        return HTMLResponse(text, status)


def _toast(text: str, kind: str) -> dict[str, str]:
    # A header is ASCII; JSON can say everything in it.
    told = msgspec.json.encode({"toast": {"text": text[:2000], "kind": kind}, "changed": {}}).decode()
    return {"hx-trigger": "".join(c if " " <= c <= "~" else _escaped(c) for c in told)}


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _source(name: str) -> str:
    """The text of a template by its name ``package:file``."""
    package, _, file = name.partition(":")
    return (files(package) / "templates" / file).read_text()


def _static() -> dict[str, str]:
    """The names of static files with a digest of what is in them."""
    return {
        each.name: f"{each.name}?{hashlib.sha256(each.read_bytes()).hexdigest()[:12]}"
        for each in (files("enricher.web") / "static").iterdir()
        if each.is_file()
    }
