"""Events of which a dead letter was made, and not by their pipeline, have failed too.

Their worker was killed while it had them, again and again, or MongoDB refuses what came of them.
"""

from __future__ import annotations

import asyncio

import anyio

from enricher.engine.router import Context
from enricher.errors import BadMessage, EnricherError, SinkUnavailable
from enricher.events.processing import Processor, read_id
from enricher.events.settings import EventSettings
from enricher.system import Host


class SetAside(EnricherError):
    """The entry of an event became a dead letter."""


class Failures:
    """Writes down what `note` is told: that an entry became a dead letter in this stage, and why."""

    def __init__(self, settings: EventSettings, host: Host, processor: Processor) -> None:
        self._settings = settings
        self._host = host
        self._processor = processor
        self._noted: asyncio.Queue[tuple[str, SetAside]] = asyncio.Queue()

    def note(self, body: bytes, stage: str, text: str) -> None:
        """Of what fails in its pipeline the document is in the same commit as the dead letter."""
        if stage in ("poison", "commit"):
            try:
                id_ = read_id(body, Context(self._settings.stream, body, 0, 1, {}))
            except BadMessage:
                return
            self._noted.put_nowait((id_, SetAside(text)))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            id_, why = await self._noted.get()
            while True:
                try:
                    await self._write(id_, why)
                    break
                except SinkUnavailable:
                    await anyio.sleep(1)

    async def _write(self, id_: str, why: SetAside) -> None:
        found = await self._host.reader.find(self._settings.collection, {"_id": id_}, limit=1)
        if found and found[0]["status"] not in ("SUCCESS", "FAILURE"):
            self._host.emit(*self._processor.set_aside(found[0], why))
