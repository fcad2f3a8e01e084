"""The list of promises: what a program may import, and no more; the engine's files are within bounds."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import enricher
import enricher.dead_letters
import enricher.engine
import enricher.jobs
import enricher.mail
from enricher.engine.lanes import Lane
from enricher.systems import SYSTEMS

PACKAGE = Path(enricher.__file__).parent


def test_the_package_exports_exactly_its_promises() -> None:
    assert sorted(enricher.__all__) == [
        "BadMessage",
        "ConfigError",
        "Context",
        "Effect",
        "Enricher",
        "EnricherError",
        "Insert",
        "Overload",
        "Overloaded",
        "Publish",
        "RetryPolicy",
        "Route",
        "SetKey",
        "Settings",
        "Upsert",
        "load",
    ]
    assert all(hasattr(enricher, name) for name in enricher.__all__)


def test_what_the_packages_promise_is_there_and_nothing_else() -> None:
    for package in (enricher, enricher.dead_letters, enricher.jobs, enricher.mail):
        assert sorted(set(dir(package)) & set(package.__all__)) == sorted(package.__all__)
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing


def imports_of(folder: str, but: tuple[str, ...] = ()) -> set[str]:
    """Every module that the files of a sub-package import; what its commands are made of is not asked."""
    found: set[str] = set()
    for file in (PACKAGE / folder).rglob("*.py"):
        if {"cli", "feed", *but} & set(file.relative_to(PACKAGE).parts):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return found


def test_the_engine_knows_neither_redis_nor_mongodb() -> None:
    forbidden = ("redis", "motor", "pymongo", "bson", "enricher.adapters", "enricher.market")
    assert not [name for name in imports_of("engine") if name.startswith(forbidden)]


def test_the_market_package_imports_no_adapter() -> None:
    forbidden = ("redis", "motor", "pymongo", "bson", "enricher.adapters")
    assert not [name for name in imports_of("market") if name.startswith(forbidden)]


def test_only_the_sink_of_documents_knows_a_mongodb_driver() -> None:
    drivers = ("motor", "pymongo", "bson")
    knowing = {
        file.relative_to(PACKAGE).as_posix()
        for folder in ("engine", "market", "adapters", "analytics", "messages", "dead_letters", "config")
        for file in (PACKAGE / folder).rglob("*.py")
        if "cli" not in file.relative_to(PACKAGE).parts
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith(drivers))
        or (isinstance(node, ast.Import) and any(a.name.startswith(drivers) for a in node.names))
    }
    files = ("mongo.py", "mongo_encoded.py", "mongo_lean.py", "mongo_numbers.py", "mongo_slow.py")
    assert knowing == {f"adapters/{file}" for file in files}


def modules() -> dict[str, ast.Module]:
    """Every file of the package by its path, parsed."""
    files = PACKAGE.rglob("*.py")
    return {f.relative_to(PACKAGE).as_posix(): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def test_no_system_is_named_outside_itself_but_in_the_list_of_systems() -> None:
    names = [system.name for system in SYSTEMS]
    found = []
    for path, tree in modules().items():
        others = [name for name in names if path != "systems.py" and not path.startswith(f"{name}/")]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                said = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                said = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                said = [node.value]
            else:
                continue
            # A module, a dotted setting, a key of a mapping: whatever behaviour could depend on.
            parts = [text.removeprefix("enricher.").replace(":", ".").split(".")[0] for text in said]
            found += [f"{path}:{node.lineno}: {each}" for each in said for name in others if name in parts]
    assert not found


def test_a_system_imports_no_adapter_and_no_other_system() -> None:
    for system in SYSTEMS:
        others = [f"enricher.{other.name}" for other in SYSTEMS if other is not system]
        forbidden = ("redis", "motor", "pymongo", "bson", "enricher.adapters", "enricher.assembly", *others)
        found = imports_of(system.name, but=("cli.py", "__init__.py"))
        assert not [name for name in found if name.startswith(forbidden)]


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
