"""Which addresses are listened on, with which pages: the services that the assembly begins."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from enricher.config import Settings, WebSettings
from enricher.config.listen import parse
from enricher.errors import WrongSetting
from enricher.system import Pages, Plan

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from enricher.dead_letters.runs import LetterRun
    from enricher.dead_letters.store import LetterStore
    from enricher.engine.service import Engine
    from enricher.runs import RunStore
    from enricher.stream_groups import StreamReading
    from enricher.web.app import App

PACKAGES = ("starlette", "uvicorn", "httptools", "prometheus_client", "jinja2")

Stopping = Callable[[], bool]
Read = Callable[[str], Awaitable["bytes | None"]]


def app_of(pages: Sequence[Pages], stopping: Stopping) -> App:
    """An ASGI app of all these pages."""
    from enricher.web.app import application

    return application([route for each in pages for route in each()], stopping)


def operations(settings: WebSettings, engine: Engine, made: Sequence[Plan]) -> Pages:
    """The pages for machines that every web app has; those not in ``web.open`` need a token."""

    def pages() -> Sequence[BaseRoute]:
        from enricher.web.guard import Guard
        from enricher.web.operations import Operations

        asks = [plan.metrics for plan in made if plan.metrics is not None]
        guarded = Guard(settings).guarded
        return [
            route if route.path in settings.open else guarded(route)
            for route in Operations(engine, asks).routes()
        ]

    return pages


def dashboard(
    settings: Settings,
    engine: Engine,
    made: Sequence[Plan],
    read: Read,
    stores: Sequence[LetterStore],
    runs: RunStore[LetterRun],
    streams: StreamReading,
) -> Pages:
    """The screens and the API: those that every worker has, and those of its systems.

    ``read`` gets a key of Redis; ``stores`` are those of dead letters, ``runs`` keeps who retries them;
    ``streams`` says how these stand.
    """
    who = settings.service.instance or socket.gethostname()
    key = f"{settings.stats.key_prefix}:history:{settings.service.name}:{who}"

    def pages() -> Sequence[BaseRoute]:
        from enricher.web.dashboard import Dashboard
        from enricher.web.guard import Guard
        from enricher.web.letters import Letters
        from enricher.web.overview import Overview
        from enricher.web.pulse import Pulse
        from enricher.web.streams import Streams
        from enricher.web.views import View

        pulse = Pulse(engine, read, key)
        pulse.begin()
        letters = Letters(engine, stores, runs, engine.clock)
        engine.begin("retries of dead letters", letters.runs.run)
        found = [
            *Overview(engine, pulse).views(),
            *(each for plan in made for each in plan.views()),
            *letters.views(),
            *Streams(streams, settings.streams).views(),
        ]
        return Dashboard(
            [each for each in found if isinstance(each, View)],
            [each for each in found if not isinstance(each, View)],
            Guard(settings.web),
            pulse,
            service=settings.service.name,
            body_timeout=settings.web.body_timeout,
            read_only=settings.web.read_only,
        ).routes()

    return pages


def services(
    settings: WebSettings, own: Sequence[Pages], made: Sequence[Plan], stopping: Stopping
) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    """A service for each address: that of the web app with all pages, and those of systems with their own.

    Raises `WrongSetting` where the packages of the extra ``web`` are missing.
    """
    wanted: dict[str, list[Pages]] = {}
    if settings.address:
        wanted[settings.address] = list(own)
    for plan in made:
        for address, pages in plan.listens.items():
            wanted.setdefault(address, []).append(pages)
    missing = [name for name in PACKAGES if find_spec(name) is None] if wanted else []
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
