"""What a system shows: views, which answer questions, and actions, which change something.

    async def listed(asked: Asked[JobQuery]) -> JobList: ...

    View("jobs", listed, "Jobs by state, newest first.", menu="Jobs", template="enricher.jobs.web:list.html")
    Action("jobs/{id}/retry", retry, "Run a job again.")

The answer of a view is JSON at ``/api/v1/{path}`` and, with a template, a screen at ``/ui/{path}``. An action
is a POST to either: with a JSON object, or with the fields of a form. What is asked and answered is typed;
the OpenAPI document is made of these types.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

Q = TypeVar("Q")


class Nothing(msgspec.Struct, frozen=True):
    """No parameters."""


class Asked(msgspec.Struct, Generic[Q], frozen=True):
    """A question, or an order: its parameters, the parts of its ``path``, and ``who`` asks."""

    parameters: Q
    path: Mapping[str, str]
    who: str


class Done(msgspec.Struct, frozen=True):
    """What an action says: a sentence, how many things it was done to, and the screen to be shown then."""

    message: str
    number: int = 1
    to: str = ""


Answer = Callable[[Asked[Any]], Awaitable[Any]]
"""Raises `enricher.web.requests.Refusal` for what it refuses, `SinkUnavailable` while a server is away."""


class View(msgspec.Struct, frozen=True):
    """An answer, and perhaps a screen.

    ``answer`` takes an `Asked` whose parameters are of the type ``query``. The ``template`` gets the fields
    of the answer; ``package:file`` names a file in the package's folder ``templates``. A screen with a
    ``menu`` has an entry of that name; one without has the entry ``within``. A ``path`` that begins with a
    slash is the whole path of the JSON.
    """

    path: str
    answer: Answer
    summary: str
    query: type[Any] = Nothing
    template: str = ""
    menu: str = ""
    within: str = ""


class Action(msgspec.Struct, frozen=True):
    """Something that is done: ``do`` takes an `Asked` whose parameters are of the type ``body``.

    ``safe`` says that nothing is changed, so that it may be asked for with ``web.read_only``.
    """

    path: str
    do: Answer
    summary: str
    body: type[Any] = Nothing
    safe: bool = False
