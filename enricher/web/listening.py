"""Which addresses are listened on, with which pages: the services that the assembly begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from enricher.config import WebSettings
from enricher.config.listen import parse
from enricher.errors import WrongSetting
from enricher.system import Pages, Plan

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from enricher.engine.service import Engine
    from enricher.web.app import App

_PACKAGES = ("starlette", "uvicorn", "httptools", "prometheus_client")

Stopping = Callable[[], bool]


def app_of(pages: Sequence[Pages], stopping: Stopping) -> App:
    """An ASGI app of all these pages."""
    from enricher.web.app import application

    return application([route for each in pages for route in each()], stopping)


def operations(engine: Engine, made: Sequence[Plan]) -> Pages:
    """The pages that every web app has."""

    def pages() -> Sequence[BaseRoute]:
        from enricher.web.operations import Operations

        return Operations(engine, [plan.metrics for plan in made if plan.metrics is not None]).routes()

    return pages


def services(
    settings: WebSettings, own: Sequence[Pages], made: Sequence[Plan], stopping: Stopping
) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    """A service for each address: that of the web app with all pages, and those of systems with their own.

    Raises `WrongSetting` where the packages of the extra ``web`` are missing.
    """
    wanted: dict[str, list[Pages]] = {}
    if settings.listen:
        wanted[settings.listen] = list(own)
    for plan in made:
        for address, pages in plan.listens.items():
            wanted.setdefault(address, []).append(pages)
    missing = [name for name in _PACKAGES if find_spec(name) is None] if wanted else []
    if missing:
        expected = f"{missing[0]} to be installed for it: pip install 'enricher[web]'"
        raise WrongSetting("web.listen", next(iter(wanted)), expected)
    return [
        (f"web on {address}", partial(_serve, address, pages, settings, stopping))
        for address, pages in wanted.items()
    ]


async def _serve(address: str, pages: Sequence[Pages], settings: WebSettings, stopping: Stopping) -> None:
    from enricher.web.server import serve

    await serve(app_of(pages, stopping), parse(address), settings)
