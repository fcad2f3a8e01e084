"""Lanes: the queue of one key, and the family of lanes that share a state store, a group and a weight."""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Any

from enricher.engine.ports import Delivery, StateStore
from enricher.engine.router import Kind, Route
from enricher.engine.writer import CommitGroup
from enricher.errors import SinkUnavailable

_PURGE_AT = 64


class Status(IntEnum):
    """Where a lane stands. Only a READY lane is in its family's queue."""

    IDLE = 0
    READY = 1
    RUNNING = 2
    LOADING = 3
    PARKED = 4


class Lane:
    """The queue of one key, with the state that its messages fold into.

    A lane is data: nothing runs for it until the pool gives it a turn. ``unsettled`` counts its writes
    that are not committed yet; a ``stale`` lane loads its state anew once that is 0, because a sink
    refused a write whose change was folded. ``retell`` says that this is not to wait for the next message,
    and that the state as a whole has something to say then.
    """

    __slots__ = (
        "due_us",
        "family",
        "gone",
        "key",
        "queue",
        "resume_us",
        "retell",
        "stale",
        "state",
        "status",
        "touched_us",
        "unsettled",
        "waking",
    )

    def __init__(self, family: Family, key: str | None) -> None:
        self.family = family
        self.key = key
        self.queue: deque[Delivery] = deque()
        self.state: Any = None
        self.status = Status.IDLE
        self.unsettled = 0
        self.stale = False
        self.retell = False
        self.gone = 0
        self.touched_us = 0
        self.due_us: int | None = None
        # State is restored whether or not a message waits, because something was left unfinished.
        self.waking = False
        # When a strict lane's retry is due; nothing else may wake the lane before.
        self.resume_us: int | None = None

    @property
    def cold(self) -> bool:
        """Whether the state has to be loaded before the next turn."""
        return self.family.state_store is not None and self.key is not None and self.state is None

    def forget(self, dropped: int) -> None:
        """So many queued deliveries were dropped; their places in the queue are cleared later."""
        self.gone += dropped
        if self.gone == len(self.queue) and self.status is Status.READY:
            self.family.emptied()
        elif self.gone > _PURGE_AT and self.gone * 2 > len(self.queue):
            self.purge()

    def purge(self) -> None:
        """Clear the places of what was dropped, so that a queue that is not empty has something to give."""
        if self.gone:
            self.queue = deque([d for d in self.queue if not d.gone])
            self.gone = 0

    def take(self) -> Delivery | None:
        """The next delivery, None when there is none."""
        queue = self.queue
        while queue:
            delivery = queue.popleft()
            if not delivery.gone:
                delivery.gone = True
                return delivery
            self.gone -= 1
        return None


class Family:
    """The lanes that share a state store (or a topic), a group of sinks and a share of the slots."""

    __slots__ = (
        "away",
        "cap",
        "cold",
        "empty",
        "group",
        "inline",
        "known",
        "lanes",
        "loading",
        "name",
        "passed",
        "priority",
        "ready",
        "restoring",
        "running",
        "state_store",
        "unrestored",
        "weight",
    )

    def __init__(self, routes: list[Route], group: CommitGroup) -> None:
        first = routes[0]
        self.name = first.family
        self.state_store: StateStore[Any] | None = first.state_store
        self.group = group
        self.weight = first.weight
        self.priority = first.priority
        self.cap = first.max_concurrency
        # Pure handlers never wait, so their turns need no task of their own.
        self.inline = all(route.kind is Kind.PURE for route in routes)
        self.lanes: dict[str, Lane] = {}
        self.ready: deque[Lane] = deque()
        self.empty = 0
        # Lanes that wait for their state: those of new keys, and those of which something is stored.
        self.cold: deque[Lane] = deque()
        self.unrestored: deque[Lane] = deque()
        # Keys whose state was loaded before: it may take longer than that of new ones.
        self.known: set[str] = set()
        # How many loads are under way, and how many of those restore.
        self.loading = 0
        self.restoring = 0
        # Why nothing can be loaded now: a server is away.
        self.away: SinkUnavailable | None = None
        self.running = 0
        self.passed = 0.0

    @property
    def servable(self) -> bool:
        """Whether a lane waits for a turn, and neither its group nor the cap stands in the way."""
        return bool(self.ready) and self.group.room > 0 and (not self.cap or self.running < self.cap)

    def lane(self, key: str | None) -> Lane:
        """The lane of ``key``; a message without one gets a lane for itself."""
        if key is None:
            return Lane(self, None)
        found = self.lanes.get(key)
        if found is None:
            found = self.lanes[key] = Lane(self, key)
        return found

    def discard(self, lane: Lane) -> None:
        """Forget an empty lane."""
        if lane.key is not None and self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def emptied(self) -> None:
        """All that a lane waits for a turn with was dropped. In an outage nobody has turns, and such lanes,
        one per message perhaps, would gather without end: they are cleared in bulk.
        """
        self.empty += 1
        if self.empty <= _PURGE_AT or self.empty * 2 <= len(self.ready):
            return
        self.empty = 0
        waiting, self.ready = self.ready, deque()
        for lane in waiting:
            lane.purge()
            if lane.queue:
                self.ready.append(lane)
                continue
            lane.status = Status.IDLE
            if lane.state is None:
                self.discard(lane)

    def charge(self, messages: int) -> None:
        """Note that ``messages`` were served: the family that was served least, by weight, is next."""
        self.passed += messages / self.weight
