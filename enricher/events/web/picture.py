"""A pipeline as boxes and ways, placed for a picture. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from enricher.events.graph import Graph

WIDTH, HEIGHT = 190, 46
_ACROSS, _DOWN = WIDTH + 56, HEIGHT + 22
_EDGE = 2


class Box(msgspec.Struct, frozen=True):
    """A node: where it is, and what became of it (``done``, ``failed``, ``open``), after how many seconds."""

    name: str
    x: int
    y: int
    router: bool
    state: str
    seconds: float | None


class Way(msgspec.Struct, frozen=True):
    """From one box to another, as the path of an SVG; ``taken`` where it was gone."""

    path: str
    taken: bool


class Picture(msgspec.Struct, frozen=True):
    """All of it, and how large it is."""

    width: int
    height: int
    boxes: list[Box]
    ways: list[Way]


def picture(graph: Graph, context: Mapping[str, Any], failed: str | None) -> Picture:
    """The graph from left to right: a node stands right of all that come before it.

    ``context`` is the `task_context` of an event, ``failed`` the node at which it failed.
    """
    done = context.get("nodes") or {}
    metadata = context.get("metadata") or {}
    seconds, routes = metadata.get("seconds") or {}, metadata.get("routes") or {}
    column: dict[str, int] = {}
    for name in graph.order:
        column[name] = max((column[each] + 1 for each in graph.predecessors[name]), default=0)
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for name in graph.order:
        row = rows.get(column[name], 0)
        rows[column[name]] = row + 1
        place[name] = _EDGE + column[name] * _ACROSS, _EDGE + row * _DOWN
    boxes = [
        Box(
            name=name,
            x=place[name][0],
            y=place[name][1],
            router=graph.is_router(name),
            state="failed" if name == failed else "done" if name in done else "open",
            seconds=seconds.get(name),
        )
        for name in graph.order
    ]
    ways = []
    for name in graph.order:
        for after in graph.successors.get(name, ()):
            gone = name in done and (not graph.is_router(name) or routes.get(name) == after)
            ways.append(Way(_path(place[name], place[after]), gone))
    width = 2 * _EDGE + max(column.values()) * _ACROSS + WIDTH
    height = 2 * _EDGE + (max(rows.values()) - 1) * _DOWN + HEIGHT
    return Picture(width, height, boxes, ways)


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y = start[0] + WIDTH, start[1] + HEIGHT // 2
    to_x, to_y = end[0], end[1] + HEIGHT // 2
    middle = (x + to_x) // 2
    return f"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"
