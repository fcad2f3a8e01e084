"""Packages of a program that are searched for classes: each module below them is imported."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from enricher.texts import text_of


def modules(name: str, failed: Callable[[str, str], object]) -> Iterator[ModuleType]:
    """This module and all below it, imported.

    ``failed`` is called with the name of a module that cannot be imported, and why; the others go on.
    """
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  a module may do anything, even exit
        failed(name, _why(error))
        return
    yield module
    for below in _names_below(module):
        yield from modules(below, failed)


def _names_below(module: ModuleType) -> list[str]:
    """The modules and packages directly below a package, also those in folders without an __init__.py."""
    folders = list(getattr(module, "__path__", ()))
    names = {each.name for each in pkgutil.iter_modules(folders)}
    for folder in map(Path, folders):
        if folder.is_dir():
            names |= {
                each.name for each in folder.iterdir() if each.name.isidentifier() and any(each.glob("*.py"))
            }
    # A __main__ is a program, which importing would run.
    return [f"{module.__name__}.{name}" for name in sorted(names - {"__main__", "__pycache__"})]


def _why(error: BaseException) -> str:
    text = text_of(error)
    return text if isinstance(error, Exception) and text else f"{type(error).__name__} {text}".strip()
