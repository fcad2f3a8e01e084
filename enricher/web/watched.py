"""The answer to a page that watches: events for as long as it reads them."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from enricher.web.pulse import Pulse

PATIENCE = 60.0
"""Seconds in which a reader must make room for the next event; one that does not is hung up on."""


class Watched(StreamingResponse):
    """Follows ``pulse``; while it does, it is counted in ``pulse.watchers``."""

    def __init__(self, pulse: Pulse) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(pulse.follow(), media_type="text/event-stream", headers=headers)
        self._pulse = pulse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Counted before anything else runs: of many that come at once none gets past the bound.
        self._pulse.watchers += 1
        try:
            with anyio.CancelScope() as reading:

                async def in_time(message: Message) -> None:
                    with anyio.move_on_after(PATIENCE) as sent:
                        await send(message)
                    if sent.cancelled_caught:
                        reading.cancel()
                        await checkpoint_if_cancelled()  # nothing more is sent

                await super().__call__(scope, receive, in_time)
        finally:
            self._pulse.watchers -= 1
