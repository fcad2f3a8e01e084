"""Which addresses are listened on, with which pages."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Sequence
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


def operations(settings: Settings, engine: Engine, made: Sequence[Plan]) -> Pages:
    """The pages for machines that every web app has; those not in ``web.open`` need a token."""

    def pages() -> Sequence[BaseRoute]:
        from enricher.web.guard import Guard
        from enricher.web.operations import Operations

        asks = [plan.metrics for plan in made if plan.metrics is not None]
        guard = Guard(settings.web)
        of_worker = Operations(engine, asks, service=settings.service.name, instance=settings.instance)
        return [guard.guarded(route, is_open=route.path in settings.web.open) for route in of_worker.routes()]

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


class Listener:
    """An address with its pages: `bind`, then `serve` until cancelled."""

    def __init__(
        self, address: str, pages: Sequence[Pages], settings: WebSettings, stopping: Stopping
    ) -> None:
        self.name = f"web on {address}"
        self._address = parse(address)
        self._pages = pages
        self._settings = settings
        self._stopping = stopping
        self._socket: socket.socket | None = None

    async def bind(self) -> None:
        """Take the address before anything else begins. Raises `EnricherError` if somebody else has it."""
        from enricher.web.server import bind

        self._socket = await bind(self._address)

    async def serve(self) -> None:
        from enricher.web.server import serve

        assert self._socket is not None  # noqa: S101  it is bound first
        await serve(app_of(self._pages, self._stopping), self._socket, self._address, self._settings)

    def close(self) -> None:
        """Let go of the address, whether or not it was ever served."""
        if self._socket is not None:
            self._socket.close()


def listeners(
    settings: WebSettings, own: Sequence[Pages], made: Sequence[Plan], stopping: Stopping
) -> list[Listener]:
    """One for each address: that of the web app with all pages, and those of systems with their own.

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
    return [Listener(address, pages, settings, stopping) for address, pages in wanted.items()]
