"""The OpenAPI document of views and actions, made of their types."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from enricher.web.views import Action, View

_REFS = "#/components/schemas/{name}"


def document(views: Sequence[View], actions: Sequence[Action], root: str = "") -> dict[str, Any]:
    """The document (OpenAPI 3.1); ``root`` is the path at which the app is mounted."""
    answers = {id(each): _answered(each.answer) for each in views} | {
        id(each): _answered(each.do) for each in actions
    }
    kinds = [*answers.values(), *(each.query for each in views), *(each.body for each in actions)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFS)
    of_kind = dict(zip(map(id, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for view in views:
        operation = _operation(view.path, view.summary, of_kind[id(answers[id(view)])])
        operation["parameters"] += _parameters(view.query, components)
        paths.setdefault(_path(view.path), {})["get"] = operation
    for action in actions:
        operation = _operation(action.path, action.summary, of_kind[id(answers[id(action)])])
        operation["requestBody"] = {"content": {"application/json": {"schema": of_kind[id(action.body)]}}}
        paths.setdefault(_path(action.path), {})["post"] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "enricher", "version": version("enricher")},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _path(path: str) -> str:
    full = path if path.startswith("/") else f"/api/v1/{path}"
    return re.sub(r"\{(\w+):\w+\}", r"{\1}", full)


def _operation(path: str, summary: str, answer: Any) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"\{(\w+)(?::\w+)?\}", path)
        ],
        "responses": {
            "200": {"description": "the answer", "content": {"application/json": {"schema": answer}}},
            "default": {"description": "refused: why, in detail"},
        },
    }


def _parameters(query: type[Any], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components.get(query.__name__, {})
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": each}
        for name, each in schema.get("properties", {}).items()
    ]


def _answered(answer: Callable[..., Any]) -> Any:
    """The type that a function says it answers with."""
    return typing.get_type_hints(getattr(answer, "func", answer)).get("return", Any)
