"""Does the engine move? What is overdue is decided from one look after the other; nothing here waits or asks.

Work that waits is no stall while something explains it: an outage, a cap, a retry, a state that is loaded,
handlers within their time. A `Waiting` is work that waits although nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Waiting(msgspec.Struct, frozen=True):
    """Work that waits and need not: ``what`` waits, ``why``, and the keys of some of its ``lanes``.

    ``progress`` is a number that changes whenever such work moves. ``topic`` is that of a route whose threads
    all hang, so that its messages cannot begin; else "".
    """

    what: str
    why: str
    progress: int
    lanes: tuple[str, ...] = ()
    topic: str = ""


class Stalls:
    """Remembers since when what waits has not moved; ``after`` seconds of that are a stall."""

    def __init__(self, after: float) -> None:
        self.after = after
        self._since: dict[str, tuple[int, float]] = {}
        self._looked = 0.0

    def look(self, waiting: Iterable[Waiting], now: float) -> Sequence[Waiting]:
        """What is stalled at ``now`` (seconds of a monotonic clock), given what waits."""
        before, self._since = self._since, {}
        if now - self._looked > self.after / 2:
            before = {}  # nobody could move while nobody could look
        self._looked = now
        stalled = []
        for work in waiting:
            progress, since = before.get(work.what, (work.progress, now))
            if progress != work.progress:
                since = now
            self._since[work.what] = (work.progress, since)
            if now - since >= self.after:
                stalled.append(work)
        return stalled
