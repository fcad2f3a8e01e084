"""A pipeline as a picture: text for a terminal, and Mermaid for pages."""

from __future__ import annotations

from collections.abc import Iterator

from enricher.events.graph import Graph
from enricher.events.pipeline import Pipeline, graph_of, type_name


def as_text(pipeline: type[Pipeline]) -> str:
    """A line for each node and its successors below it; a router's have a question mark.

    A node to which several ways lead is drawn out once, and named with an arrow where it comes again.
    """
    graph = graph_of(pipeline)
    title = f"{pipeline.__name__}  ({type_name(pipeline)}: {pipeline.event.__name__})"
    return "\n".join([title, *_lines(graph, graph.start, "", "", set())])


def _lines(graph: Graph, name: str, first: str, rest: str, drawn: set[str]) -> Iterator[str]:
    after = graph.successors.get(name, ())
    if name in drawn and after:
        yield f"{first}{name} (see above)"
        return
    drawn.add(name)
    yield f"{first}{name}{' ?' if graph.is_router(name) else ''}"
    for each in after:
        last = each == after[-1]
        branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _lines(graph, each, rest + branch, rest + below, drawn)


def as_mermaid(pipeline: type[Pipeline]) -> str:
    """A flowchart; routers are diamonds, and their ways are dotted."""
    graph = graph_of(pipeline)
    lines = ["flowchart TD"]
    for name in graph.order:
        shape = "{%s}" if graph.is_router(name) else "[%s]"
        lines.append("    " + name + shape % name)
    for name in graph.order:
        arrow = "-.->" if graph.is_router(name) else "-->"
        lines += [f"    {name} {arrow} {after}" for after in graph.successors.get(name, ())]
    return "\n".join(lines)
