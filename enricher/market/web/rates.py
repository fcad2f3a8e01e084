"""How many messages a second came over each channel in the last hour."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import anyio
import msgspec

from enricher.clock import SECOND
from enricher.engine.effects import SetKey
from enricher.errors import EnricherError
from enricher.log import log
from enricher.system import Host

EVERY = 5.0
POINTS = int(3600 / EVERY)
_KEPT_EVERY = 3
_KEPT_MS = 2 * 3600 * 1000
_LINE = 120


class Rates:
    """Counts of ``channels``, looked at every five seconds by `run`.

    Once somebody ``watched`` they are kept in Redis, so that a restart does not end the line.
    """

    def __init__(self, host: Host, channels: Sequence[str]) -> None:
        settings = host.settings
        who = settings.service.instance or socket.gethostname()
        self.key = f"{settings.stats.key_prefix}:rates:{settings.service.name}:{who}"
        self.watched = False
        self._host = host
        self._channels = tuple(channels)
        # The second of the clock, and a rate for each channel.
        self._points: deque[list[float]] = deque(maxlen=POINTS)

    def of(self, channel: str) -> list[float]:
        """Messages a second in the last ten minutes, oldest first."""
        place = self._channels.index(channel) + 1
        return [point[place] for point in list(self._points)[-_LINE:]]

    async def run(self) -> None:
        """Count until cancelled."""
        before, at = self._counts(), anyio.current_time()
        await self._restore()
        number = 0
        while True:
            await anyio.sleep(EVERY)
            counts, now = self._counts(), anyio.current_time()
            rates = [round((new - old) / (now - at), 1) for new, old in zip(counts, before, strict=True)]
            self._points.append([self._host.clock() // SECOND, *rates])
            before, at, number = counts, now, number + 1
            if self.watched and number % _KEPT_EVERY == 0 and not self._host.outages:
                kept = SetKey(self.key, msgspec.json.encode(list(self._points)), _KEPT_MS)
                with suppress(EnricherError):  # at the very end, when nothing is committed any more
                    self._host.emit(kept)

    def _counts(self) -> list[int]:
        return [self._host.stats.topic(channel).counts["received"] for channel in self._channels]

    async def _restore(self) -> None:
        try:
            (kept,) = await self._host.cached(self.key)
            if kept is not None:
                earliest, width = self._host.clock() // SECOND - 3600, len(self._channels) + 1
                points = msgspec.json.decode(kept, type=list[list[float]])
                self._points.extend(p for p in points if len(p) == width and p[0] >= earliest)
        except (EnricherError, msgspec.MsgspecError) as error:
            log.debug("rates_missing", reason=str(error))
