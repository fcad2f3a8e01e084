"""Whose turn is next, and which lane may be loaded next. It decides; nothing here runs or waits.

Turns: strict priority first, then the group that was served least by its weight, lanes of a group in turn, so
that neither a busy route nor a hot key starves the others. A group whose slots are all taken is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from enricher.engine.lanes import Lane, LaneGroup, Share
from enricher.engine.router import Route, Slots
from enricher.engine.writer import CommitGroup
from enricher.errors import SinkUnavailable

# Lanes of new keys whose state is loaded together.
TOGETHER = 200
# Loads of a group under way at once, so that a slow one holds up none of the others. Fewer restore what is
# stored, so that a new key never waits for all of that.
_LOADS = 4
_RESTORING = 3
# Keys of a group of which it is kept in mind that something is stored.
_KNOWN = 100_000


class Scheduler:
    """One `LaneGroup` per state store or topic of ``routes``, and slots for their turns.

    There are ``slots`` for all routes that have none of their own. ``commit_group`` finds the group of some
    sinks. ``groups`` are in the order of their priority, ``turns`` counts those that were given. ``shares``
    are the slots: the pool's first, then those of each `Slots`.
    """

    __slots__ = ("by_name", "groups", "shares", "turns")

    def __init__(
        self, routes: Sequence[Route], commit_group: Callable[[tuple[str, ...]], CommitGroup], slots: int
    ) -> None:
        self.turns = 0
        self.by_name: dict[str, LaneGroup] = {}
        shares: dict[Slots | None, Share] = {None: Share(slots)}
        for route in routes:
            if route.lane_group not in self.by_name:
                members = [r for r in routes if r.lane_group == route.lane_group]
                if route.slots is not None and route.slots not in shares:
                    shares[route.slots] = Share(route.slots.limit)
                share = shares[route.slots]
                self.by_name[route.lane_group] = LaneGroup(members, commit_group(route.sinks), share)
        self.shares = tuple(shares.values())
        self.groups = sorted(self.by_name.values(), key=lambda group: -group.priority)

    def pick(self) -> Lane | None:
        """The lane that has the next turn, until its `end`; None if none may have one.

        It is charged for one message at once, so that slots are shared by weight also while turns last.
        """
        best: LaneGroup | None = None
        for group in self.groups:
            if best is not None and group.priority < best.priority:
                break
            # As `LaneGroup.servable` says it, which would be a call more for each message of a trickle.
            if not group.ready or group.share.free <= 0 or group.commit_group.room <= 0:
                continue
            if group.max_concurrency and len(group.running) >= group.max_concurrency:
                continue
            if best is None or group.passed < best.passed:
                best = group
        if best is None:
            return None
        lane = best.ready.popleft()
        best.share.free -= 1
        self.turns += 1
        best.running.add(lane)
        best.passed += 1 / best.weight
        return lane

    def queue(self, lane: Lane) -> None:
        """``lane`` waits for a turn. A group that was idle gets no credit for the time it did not use."""
        group = lane.group
        if not group.ready and not group.running:
            least = inf
            for other in group.share.groups:
                if other.passed < least and (other.ready or other.running):
                    least = other.passed
            if group.passed < least < inf:
                group.passed = least
        group.ready.append(lane)

    def end(self, lane: Lane, served: int) -> None:
        """The turn of ``lane`` has ended, after so many messages. If it goes on it is queued again before."""
        group = lane.group
        group.share.free += 1
        group.running.discard(lane)
        group.passed += (served - 1) / group.weight


class LoadQueue:
    """The lanes of a group that wait for their state.

    All new keys that wait are one batch; keys that something is stored of are loaded one by one, first one
    with messages. Nothing is loaded before the keys are ``asked`` for that were left unfinished. A server
    that is ``unreachable`` is asked by one load at a time.
    """

    __slots__ = ("_known", "_loading", "_new", "_restoring", "_stored", "asked", "unreachable")

    def __init__(self) -> None:
        self.asked = False
        self.unreachable: SinkUnavailable | None = None
        self._new: deque[Lane] = deque()
        self._stored: deque[Lane] = deque()
        # Keys whose state was loaded before: it may take longer than that of new ones.
        self._known: set[str] = set()
        self._loading = 0
        self._restoring = 0

    def add(self, lane: Lane) -> None:
        """``lane`` waits: something is stored of it, as far as is known, or its key is new."""
        (self._stored if lane.waking or lane.key in self._known else self._new).append(lane)

    def promote(self, lane: Lane) -> None:
        """Something is stored of ``lane``, which is known only now."""
        if lane in self._new:
            self._new.remove(lane)
            self._stored.append(lane)

    def learn(self, lane: Lane) -> bool:
        """The state of ``lane`` was loaded; whether that is the first time."""
        first = lane.key not in self._known
        if len(self._known) == _KNOWN:
            self._known.clear()
        self._known.add(str(lane.key))
        return first

    def begin(self) -> bool:
        """Whether another load may begin; it has begun then."""
        most = 0 if not self.asked else 1 if self.unreachable is not None else _LOADS
        waits = self._new or (self._stored and self._restoring < _RESTORING)
        if not waits or self._loading >= most:
            return False
        self._loading += 1
        return True

    def end(self) -> None:
        """A load has nothing more to do."""
        self._loading -= 1
        if not self._loading and not self._new and not self._stored:
            self.unreachable = None

    def take(self, size: int) -> tuple[list[Lane], bool]:
        """What a load that has begun loads next, at most ``size`` lanes, and whether they are restored.

        It gives them back with `give_back`. Where there are none it is to end.
        """
        if self.unreachable is not None and self._loading > 1:
            return [], False
        if self._new:
            return [self._new.popleft() for _ in range(min(size, len(self._new)))], False
        if not self._stored or self._restoring >= _RESTORING:
            return [], False
        lane = next((lane for lane in self._stored if lane.queue), self._stored[0])
        self._stored.remove(lane)
        self._restoring += 1
        return [lane], True

    def put_back(self, lanes: list[Lane], restored: bool, error: Exception) -> None:
        """The load of ``lanes`` failed.

        A server that is away is asked for them again. What fails for any other reason may be the trouble of
        these lanes alone, so others have their turn first.
        """
        waiting = self._stored if restored else self._new
        self.unreachable = error if isinstance(error, SinkUnavailable) else None
        if self.unreachable is None:
            waiting.extend(lanes)
        else:
            waiting.extendleft(reversed(lanes))

    def give_back(self, restored: bool) -> None:
        """A load is done with what it took, and with the wait after a failure."""
        self._restoring -= restored
