"""The engine's files: their imports go round in no circle, and one of them alone changes a lane."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import enricher.engine
from enricher.engine.lanes import Lane

ENGINE = Path(enricher.engine.__file__).parent
SOURCES = {path.stem: ast.parse(path.read_text()) for path in ENGINE.glob("*.py")}
# What others may set too, for they have attributes of that name: a message's key.
CHANGED = set(Lane.__slots__) - {"key"}


def imported(tree: ast.Module) -> Iterator[str]:
    """The files of the engine that a file imports, at the top, in functions and for type checkers alike."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "enricher.engine":
            names = [f"enricher.engine.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from (name.split(".")[2] for name in names if name.startswith("enricher.engine."))


def test_imports_go_round_in_no_circle() -> None:
    graph = {name: set(imported(tree)) for name, tree in SOURCES.items()}
    assert graph["pool"] >= {"turns", "completion", "scheduler"}
    TopologicalSorter(graph).prepare()  # raises `CycleError`, which names the circle


def test_a_lane_is_changed_by_its_own_transitions_alone() -> None:
    for name, tree in SOURCES.items():
        stored = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
        others = {n.attr for n in stored if not (isinstance(n.value, ast.Name) and n.value.id == "self")}
        assert name == "lanes" or not others & CHANGED, name
