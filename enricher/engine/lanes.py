"""A lane: the queue of one key, the state that its messages fold into, and where it stands.

A lane is data, and this file is all that changes it. Each transition returns the `Step` that is to be taken
about the lane, or None; who gives turns, loads states and keeps timers takes it and decides nothing.

    idle ------> ready ------> running ---> idle       a turn
      |                           '-------> parked     a strict route's message waits for its retry
      |--------> loading ---------------> idle         the state is not there yet, or no longer right
      '--------> parked ----------------> idle         the state is not right, and writes are in flight
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import Any

from enricher.engine.ports import Delivery, StateStore
from enricher.engine.router import Route
from enricher.engine.writer import CommitGroup

_PURGE_AT = 64
_NOTHING: deque[Delivery] = deque(maxlen=0)


class Status(Enum):
    """Where a lane stands. Only a READY lane is in its group's queue."""

    IDLE = auto()
    READY = auto()
    RUNNING = auto()
    LOADING = auto()
    PARKED = auto()


class Step(Enum):
    """What is to be done about a lane after a transition."""

    TURN = auto()
    """Queue it for a turn."""
    RUN = auto()
    """Its turn has begun: serve it."""
    LOAD = auto()
    """Load its state."""
    FORGET = auto()
    """Nothing waits in it and it has no state: it may go."""


# Python 3.11 takes as long to look up a member of an enum as to queue a message.
_IDLE, _READY, _RUNNING, _LOADING, _PARKED = Status


class Lane:
    """The queue of one key, with its state.

    ``unsettled`` counts its writes that are not committed yet. A ``stale`` state is not to be trusted, for a
    sink refused what was folded or a state store failed: it is loaded anew once ``unsettled`` is 0. That does
    not wait for the next message if ``show_again`` is set, and the state is shown again as a whole then.
    ``waking`` says that the state is loaded whether or not a message waits. ``due_us`` is when it asked for a
    clock event, ``resume_us`` when the retry of a parked lane is due: nothing else may wake it before.
    """

    __slots__ = (
        "dropped", "due_us", "group", "key", "queue", "resume_us", "show_again", "stale", "state", "status",
        "touched_us", "unsettled", "waking",
    )  # fmt: skip

    def __init__(self, group: LaneGroup, key: str | None) -> None:
        self.group = group
        self.key = key
        self.queue = _NOTHING  # an empty deque takes 600 bytes, and most lanes are idle
        self.state: Any = None
        self.status = _IDLE
        self.unsettled = 0
        self.stale = False
        self.show_again = False
        self.waking = False
        self.dropped = 0
        self.touched_us = 0
        self.due_us: int | None = None
        self.resume_us: int | None = None

    # -- messages ----------------------------------------------------------------------------------

    def add(self, delivery: Delivery) -> Step | None:
        delivery.lane = self
        if self.queue is _NOTHING:
            self.queue = deque()
        self.queue.append(delivery)
        return self.wake() if self.status is _IDLE else None

    def add_again(self, delivery: Delivery) -> Step | None:
        """Queue a message for another attempt."""
        delivery.gone = False
        if delivery.backlog is not None:
            delivery.backlog.queued += 1
        return self.add(delivery)

    def take(self) -> Delivery | None:
        """The next message, which nobody can drop any more; None when there is none."""
        return next(self.take_all(), None)

    def take_all(self, most: int = 1, most_bytes: int = 1) -> Iterator[Delivery]:
        """The next messages one by one, as by `take`: up to ``most``, and no more after ``most_bytes``."""
        while self.queue and most > 0 and most_bytes > 0:
            delivery = self.queue.popleft()
            if delivery.gone:
                self.dropped -= 1
                continue
            delivery.gone = True
            backlog = delivery.backlog
            if backlog is not None:
                # As `Backlog.left` says it, which would be a call more for each message.
                backlog.queued -= 1
                if not backlog.queued:
                    backlog.clear()
            most -= 1
            most_bytes -= len(delivery.body)
            yield delivery

    def withdraw(self, route: Route) -> list[Delivery]:
        """Take out all messages of ``route`` that whoever sent them has still."""
        queued, self.queue = self.queue, deque()
        taken = []
        for delivery in queued:
            if delivery.gone or not delivery.kept or delivery.route is not route:
                self.queue.append(delivery)
                continue
            delivery.gone = True
            if delivery.backlog is not None:
                delivery.backlog.left()
            taken.append(delivery)
        return taken

    def drop(self, number: int) -> None:
        """So many queued messages are gone; their places in the queue are cleared later."""
        self.dropped += number
        if self.dropped == len(self.queue) and self.status is _READY:
            self.group.emptied()
        elif self.dropped > _PURGE_AT and self.dropped * 2 > len(self.queue):
            self.purge()

    def purge(self) -> None:
        """Clear the places of what was dropped, so that a queue that is not empty has something to give."""
        if self.dropped:
            self.queue = deque([d for d in self.queue if not d.gone])
            self.dropped = 0

    @property
    def waits(self) -> bool:
        """Whether it has a message, not only what was dropped."""
        return len(self.queue) > self.dropped

    # -- turns -------------------------------------------------------------------------------------

    def wake(self) -> Step | None:
        """It has something to do: a turn, before that the loading of its state."""
        if self.stale:
            if self.unsettled:
                self.status = _PARKED  # until what it has in flight is stored
                return None
            self.stale, self.state = False, None
            self.waking |= self.show_again
        if self.state is None and self.cold:
            self.status = _LOADING
            return Step.LOAD
        self.status = _READY
        return Step.TURN

    def begin(self) -> Step | None:
        if self.stale:
            return self.wake()
        self.status = _RUNNING
        return Step.RUN

    def end(self, now_us: int) -> Step | None:
        """Its turn has ended, at ``now_us`` by the steady clock."""
        self.touched_us = now_us
        if self.status is not _RUNNING:
            return None
        self.status = _IDLE
        if not self.queue:
            self.queue = _NOTHING
        return self.rest() if self.queue or self.state is None else None

    def rest(self) -> Step | None:
        """It is idle: what next?"""
        if self.queue:
            return self.wake()
        return Step.FORGET if self.state is None else None

    def park(self, delivery: Delivery, due_us: int) -> None:
        """The message at its head is tried again at ``due_us``, and all others wait behind it."""
        self.status, self.resume_us = _PARKED, due_us
        delivery.gone = False
        if delivery.backlog is not None:
            delivery.backlog.queued += 1
        self.queue = deque((delivery, *self.queue))

    def resume(self, due_us: int) -> Step | None:
        """The time that it was parked until has come."""
        if self.resume_us != due_us:
            return None
        self.resume_us = None
        return self.wake()

    # -- the state ---------------------------------------------------------------------------------

    @property
    def cold(self) -> bool:
        """Whether the state has to be loaded before the next turn."""
        return self.state is None and self.key is not None and self.group.state_store is not None

    def restore(self) -> Step | None:
        """Load the state whether or not a message waits, because something was left unfinished."""
        self.waking = True
        return self.wake() if self.status is _IDLE else None

    def loaded(self, state: Any, now_us: int) -> None:
        """The state is there; None where what asked for it has been dropped meanwhile. `rest` comes next."""
        self.state = state
        self.status, self.waking, self.touched_us = _IDLE, False, now_us
        self.purge()

    def distrust(self) -> None:
        """Nobody knows what the state holds: it is loaded anew before the next message."""
        self.stale = True

    def pop_show_again(self) -> bool:
        """Whether the state, which was loaded anew, is to be shown again as a whole; asked once."""
        again, self.show_again = self.show_again, False
        return again

    def evict(self) -> Step | None:
        self.state = None
        return Step.FORGET

    def ask(self, due_us: int) -> bool:
        """Ask for a clock event at ``due_us``; False where an earlier one is asked for."""
        if self.due_us is not None and self.due_us <= due_us:
            return False
        self.due_us = due_us
        return True

    def due(self, due_us: int) -> bool:
        """Whether ``due_us`` is what it asked for; it has asked for nothing then."""
        if self.due_us != due_us:
            return False
        self.due_us = None
        return True

    # -- writes ------------------------------------------------------------------------------------

    def sent(self, number: int = 1) -> None:
        """So many of its writes are on their way."""
        self.unsettled += number

    def settled(self, number: int = 1) -> Step | None:
        self.unsettled -= number
        return self._reload() if self.stale else None

    def refused(self, *, folded: bool) -> Step | None:
        """One of them is a message's that no sink will take; ``folded``: the state holds it."""
        self.unsettled -= 1
        if folded:
            self.stale = self.show_again = True
        return self._reload() if self.stale else None

    def _reload(self) -> Step | None:
        """Load a stale state anew once nothing of the lane is in flight, unless a retry holds it."""
        if self.unsettled or self.resume_us is not None:
            return None
        if self.status is _PARKED:
            self.status = _IDLE
        idle = self.status is _IDLE
        return self.wake() if idle and (self.queue or self.show_again) else None


class Share:
    """Slots that ``groups`` of lanes have between them, so many of which are ``free``."""

    __slots__ = ("free", "groups")

    def __init__(self, slots: int) -> None:
        self.free = slots
        self.groups: list[LaneGroup] = []

    @property
    def crowded(self) -> bool:
        """Whether any lane waits for a turn, whatever it is that is missing for it."""
        return any(group.ready for group in self.groups)


class LaneGroup:
    """The lanes that share a state store (or a topic), a group of sinks and a share of the slots.

    ``ready`` are those that wait for a turn, ``running`` those that have one. ``passed`` counts what was
    served, by its weight. ``share`` are the slots that its turns take.
    """

    __slots__ = (
        "_emptied", "commit_group", "inline", "lanes", "max_concurrency", "name", "passed", "priority",
        "ready", "running", "share", "state_store", "weight",
    )  # fmt: skip

    def __init__(self, routes: list[Route], commit_group: CommitGroup, share: Share) -> None:
        first = routes[0]
        self.name = first.lane_group
        self.state_store: StateStore[Any] | None = first.state_store
        self.commit_group = commit_group
        self.share = share
        share.groups.append(self)
        self.weight = first.weight
        self.priority = first.priority
        self.max_concurrency = first.max_concurrency
        # Pure handlers never wait, so their turns need no task of their own.
        self.inline = all(route.inline for route in routes)
        self.lanes: dict[str | None, Lane] = {}
        self.ready: deque[Lane] = deque()
        self.running: set[Lane] = set()
        self.passed = 0.0
        self._emptied = 0

    @property
    def servable(self) -> bool:
        """Whether a lane waits for a turn, and neither its sinks nor the cap stand in the way."""
        capped = self.max_concurrency and len(self.running) >= self.max_concurrency
        return bool(self.ready) and self.commit_group.room > 0 and not capped

    def lane(self, key: str | None) -> Lane:
        """The lane of ``key``; a message without one gets a lane for itself."""
        if key is None:
            return Lane(self, None)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane(self, key)
        return lane

    def every(self) -> Iterable[Lane]:
        """All lanes that it knows; one without a key is known while it waits for its turn or has it."""
        return dict.fromkeys((*self.lanes.values(), *self.ready, *self.running))

    def forget(self, lane: Lane) -> None:
        if self.lanes.get(lane.key) is lane:
            del self.lanes[lane.key]

    def emptied(self) -> None:
        """All that a lane waits for a turn with was dropped. In an outage nobody has turns, and such lanes,
        one per message perhaps, would gather without end: they are cleared in bulk.
        """
        self._emptied += 1
        if self._emptied <= _PURGE_AT or self._emptied * 2 <= len(self.ready):
            return
        self._emptied = 0
        waiting, self.ready = self.ready, deque()
        for lane in waiting:
            lane.purge()
            if lane.queue:
                self.ready.append(lane)
                continue
            lane.status = _IDLE
            if lane.state is None:
                self.forget(lane)
