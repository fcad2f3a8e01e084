"""Does the engine move? What is overdue is decided from one look after the other; nothing here waits or asks.

Work that waits is no stall while something explains it: an outage, a cap, a retry, a state that is loaded,
handlers within their time. A `Waiting` is work that waits although nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from enricher.engine.apart import GRACE
from enricher.engine.ports import Delivery
from enricher.engine.router import Kind

if TYPE_CHECKING:
    from enricher.engine.lanes import Family, Lane

# Lanes that are named.
_NAMED = 5


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
        for found in waiting:
            progress, since = before.get(found.what, (found.progress, now))
            if progress != found.progress:
                since = now
            self._since[found.what] = (found.progress, since)
            if now - since >= self.after:
                stalled.append(found)
        return stalled


def lanes_that_wait(
    families: Iterable[Family],
    slots: int,
    handling: Sequence[tuple[Delivery, float]],
    turns: int,
    now: float,
    patience: float,
) -> list[Waiting]:
    """The lanes that wait for a turn while neither their group nor a cap stands in the way.

    That no slot is free explains it while one of the handlers, each with when it began (seconds), is within
    its time: the timeout of its route, else ``patience`` seconds.
    """
    why = "slots are free, and no turn is given"
    if slots <= 0:
        if any(_in_time(delivery, now - began, patience) for delivery, began in handling):
            return []
        late = ", ".join(sorted({delivery.topic for delivery, _ in handling}))
        why = f"no slot is free, and every handler is past its time: {late}"
    found = []
    for family in families:
        if not family.servable:
            continue
        lanes = [str(lane.key) for lane in islice(full_lanes(family), _NAMED)]
        if lanes:
            found.append(Waiting(f"lanes of {family.name}", why, turns, tuple(lanes)))
    return found


def lanes_behind_handlers(
    families: Iterable[Family], handling: Sequence[tuple[Delivery, float]], now: float
) -> list[Waiting]:
    """The lanes that wait for handlers that are past their route's timeout and go on.

    Their own lanes, and where such handlers are as many as the cap, all others of the family.
    """
    hung: dict[str, list[tuple[Lane, float]]] = {}
    for delivery, began in handling:
        route, lane = delivery.route, delivery.lane
        if route is None or lane is None or route.timeout is None or route.kind is Kind.BLOCKING:
            continue
        if now - began > route.timeout + GRACE:
            hung.setdefault(route.family, []).append((lane, began))
    found = []
    for family in families:
        late = hung.get(family.name, [])
        lanes = [lane for lane, _ in late if len(lane.queue) > lane.gone]
        if family.cap and len(late) >= family.cap:
            lanes += full_lanes(family)
        if lanes:
            why, progress = "handlers go on past their timeout", hash(tuple(began for _, began in late))
            keys = tuple(str(lane.key) for lane in lanes[:_NAMED])
            found.append(Waiting(f"messages of {family.name}", why, progress, keys))
    return found


def full_lanes(family: Family) -> Iterable[Lane]:
    """Lanes that wait for a turn, not only with what was dropped."""
    return (lane for lane in family.ready if len(lane.queue) > lane.gone)


def _in_time(delivery: Delivery, seconds: float, patience: float) -> bool:
    route = delivery.route
    if route is None:
        return True
    if route.kind is Kind.BLOCKING and route.timeout is not None:
        return True  # its threads tell
    return seconds <= (route.timeout or patience) + GRACE
