"""CommitGroup commit: durable sinks first, visible sinks second, in order, batches as they gather.

Routes that name the same sinks share a `CommitGroup`. A group has two stages, each with one commit in flight,
so batch k+1 may be in the durable sinks while batch k is in the visible ones, effects never overtake each
other, and a slow sink of one group does not hold another. There is no timer: a stage takes what has
gathered while it was busy, a lone write at once, a flood in large batches.

An outage of a sink is nobody's fault: its `CircuitBreaker` repeats the commit for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from enricher.config import WriterSettings
from enricher.engine.circuit import Batch, CircuitBreaker
from enricher.engine.effects import EMITTED, SETTLED, Effect
from enricher.engine.ports import Answer, Clock, Refused, Sink, Stored, Write, steady_clock
from enricher.engine.retry import Backoff
from enricher.engine.stalls import Waiting
from enricher.engine.stats import Stats
from enricher.engine.supervision import endless
from enricher.log import log

# Writes that join a batch of which nothing lands, to see whether they do.
_MORE = 8


class CommitGroup:
    """The two stages that the writes of some routes pass, first in, first out.

    It takes no more while ``most`` writes or ``most_bytes`` of bodies of its own are not committed: what is
    with the writer can be neither dropped nor conflated, so most of a full pool must still wait in lanes.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        breakers: Sequence[CircuitBreaker],
        limits: WriterSettings,
        most: int,
        most_bytes: int,
        stats: Stats,
        clock: Clock,
        settle: Callable[[Batch, Mapping[int, Answer]], None],
        refuse: Callable[[Write, Refused], None],
        is_stale: Callable[[Any], bool],
        on_room: Callable[[], None],
    ) -> None:
        self.names = frozenset(names)
        self.landing: set[type[Effect]] = set()
        """Kinds of effects that were seen to name a sink of this group."""
        self._durable = [breaker for breaker in breakers if breaker.sink.durable]
        self._visible = [breaker for breaker in breakers if not breaker.sink.durable]
        self._limits = limits
        self._most = most
        self._most_bytes = most_bytes
        self._stats = stats
        self._clock = clock
        self._settle = settle
        self._refuse = refuse
        self._is_stale = is_stale
        self._on_room = on_room
        self._capacity = limits.max_batch * limits.backlog
        self._pending: deque[Write] = deque()
        self._handed: deque[Batch] = deque()
        self._durable_batch: Batch = []
        self._visible_batch: Batch = []
        self._arrived = asyncio.Event()
        self._handed_over = asyncio.Event()
        self._taken = asyncio.Event()
        self._bytes = 0
        # Owners whose state holds what was refused.
        self._stale: set[Any] = set()
        self.unfinished = 0
        self.commits = 0

    @property
    def room(self) -> int:
        """How many more writes the group takes before its callers should wait (may be negative)."""
        if self._bytes >= self._most_bytes:
            return 0
        return min(self._capacity - len(self._pending), self._most - self.unfinished)

    @property
    def room_bytes(self) -> int:
        """How many more bytes of bodies the group takes before its callers should wait."""
        return self._most_bytes - self._bytes

    def submit(self, writes: Iterable[Write]) -> None:
        """Queue ``writes``; never waits (ask `room` first)."""
        for write in writes:
            self._pending.append(write)
            self.unfinished += 1
            self._bytes += write.body_size
        self._arrived.set()

    def left(self) -> list[Write]:
        """What has not been committed."""
        left = [w for batch in (self._visible_batch, *self._handed, self._durable_batch) for w in batch]
        return [*left, *self._pending]

    @property
    def waiting(self) -> Waiting | None:
        """That what it took is not committed, unless one of its sinks is away."""
        breakers = (*self._durable, *self._visible)
        if not self.unfinished or any(breaker.down_since is not None for breaker in breakers):
            return None
        names = ", ".join(sorted(self.names))
        return Waiting(f"{self.unfinished} writes to {names}", "no commit has ended", self.commits)

    def abandon(self) -> list[Write]:
        """What has not been committed, when there is no time left; it is never settled after this."""
        left = self.left()
        self._visible_batch, self._durable_batch = [], []
        self._handed.clear()
        self._pending.clear()
        return left

    async def run(self) -> None:
        """Commit until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run_durable)
            tasks.start_soon(self._run_visible)
        raise RuntimeError(f"a stage of the writer to {', '.join(sorted(self.names))} has ended")

    async def _run_durable(self) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._durable_batch = self._take()
            self._on_room()
            if self._stale:
                batch = self._durable_batch = self._without_stale(batch)
                if not batch:
                    continue
            if self._durable:
                answers = await self._commit(self._durable, batch, "durable", self._add_pending)
                if not self._durable_batch:
                    continue  # abandoned meanwhile
                if answers:
                    batch = self._durable_batch = self._answered(batch, answers)
                if self._stale:
                    batch = self._durable_batch = self._without_stale(batch)
                if not batch:
                    continue
            # One batch may wait behind the one in the visible sinks, no more: what
            # gathers meanwhile makes the next batch larger instead.
            while self._handed:
                self._taken.clear()
                await self._taken.wait()
            if not self._durable_batch:
                continue
            self._handed.append(batch)
            # Nothing may keep what is committed alive until the next message, which may be hours away.
            batch = self._durable_batch = []
            self._handed_over.set()

    async def _run_visible(self) -> None:
        while True:
            while not self._handed:
                self._handed_over.clear()
                await self._handed_over.wait()
            batch = self._visible_batch = self._handed.popleft()
            self._taken.set()
            answers: Mapping[int, Answer] = {}
            if self._visible:
                answers = await self._commit(self._visible, batch, "visible", self._add_handed)
            if not self._visible_batch:
                continue  # abandoned meanwhile
            done = batch
            if any(isinstance(answer, Refused) for answer in answers.values()):
                done = self._answered(batch, answers)
                kept = (i for i in range(len(batch)) if not isinstance(answers.get(i), Refused))
                answers = {n: answers[i] for n, i in enumerate(kept) if i in answers}
            self.unfinished -= len(done)
            self._bytes -= sum(write.body_size for write in done)
            self._visible_batch = []
            self.commits += 1
            self._settle(done, answers)
            batch = done = []
            self._on_room()

    def _take(self) -> Batch:
        pending, limits = self._pending, self._limits
        batch: Batch = []
        size = 0
        while pending and len(batch) < limits.max_batch:
            size += pending[0].body_size
            if batch and size > limits.max_batch_bytes:
                break
            batch.append(pending.popleft())
        return batch

    def _without_stale(self, batch: Batch) -> Batch:
        """The batch without what states have to say that hold something refused: they are loaded anew."""
        self._stale = {owner for owner in self._stale if self._is_stale(owner)}
        void = [write for write in batch if write.label == SETTLED and write.owner in self._stale]
        if void:
            self.unfinished -= len(void)
            self._settle(void, {})
        return [write for write in batch if not (write.label == SETTLED and write.owner in self._stale)]

    def _add_pending(self) -> int:
        """Let a few more of what waits join the batch in the durable sinks."""
        batch, before = self._durable_batch, len(self._durable_batch)
        while self._pending and 0 < len(batch) < before + _MORE and len(batch) < 2 * self._limits.max_batch:
            batch.append(self._pending.popleft())
        return len(batch) - before

    def _add_handed(self) -> int:
        """Let the next batch join the one in the visible sinks."""
        batch, before = self._visible_batch, len(self._visible_batch)
        if self._handed and 0 < len(batch) < 2 * self._limits.max_batch:
            batch += self._handed.popleft()
            self._taken.set()
        return len(batch) - before

    async def _commit(
        self, breakers: list[CircuitBreaker], batch: Batch, stage: str, more: Callable[[], int]
    ) -> Mapping[int, Answer]:
        began = self._clock()
        first = batch[0].delivery if batch else None
        topic = first.topic if first is not None else stage
        in_flight = self._stats.in_flight
        said = f"{topic} (+{len(batch) - 1})" if len(batch) > 1 else topic
        row = in_flight.begin(said, first.key if first is not None else None, 1, began, stage)
        try:
            if len(breakers) == 1:
                answers = await breakers[0].commit(batch, more)
            else:
                answers = {}
                found: dict[int, Answer] = {}

                async def one(breaker: CircuitBreaker) -> None:
                    for index, answer in (await breaker.commit(batch)).items():
                        if not isinstance(found.get(index), Refused):
                            found[index] = answer

                async with anyio.create_task_group() as tasks:
                    for breaker in breakers:
                        tasks.start_soon(one, breaker)
                answers = found
        finally:
            in_flight.end(row)
        self._stats.histograms[stage].record(self._clock() - began)
        return answers

    def _answered(self, batch: Batch, answers: Mapping[int, Answer]) -> Batch:
        """The batch without the refused writes, stored ones saying what was stored."""
        kept: Batch = []
        self.commits += 1
        for index, write in enumerate(batch):
            answer = answers.get(index)
            if isinstance(answer, Refused):
                self.unfinished -= 1
                self._bytes -= write.body_size
                self._refuse(write, answer)
                if self._is_stale(write.owner):
                    self._stale.add(write.owner)
                self._on_room()
                continue
            if isinstance(answer, Stored):
                replace_visible(write, answer)
            kept.append(write)
        return kept


def replace_visible(write: Write, answer: Stored) -> None:
    """Give ``write`` the visible effects of the document that was stored before it came."""
    for effect in write.effects:
        again = getattr(effect, "stored", None)
        if again is None:
            continue
        effects = again(answer.document)
        acks = () if write.delivery is None else write.delivery.ack()
        write.effects = acks if effects is None else (*effects, *acks)
        if effects is None:
            write.label = "duplicate"
        return


class Writer:
    """All groups and the breakers they share."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        limits: WriterSettings,
        most: int,
        most_bytes: int,
        backoff: Backoff,
        stats: Stats,
        clock: Clock,
        settle: Callable[[Batch, Mapping[int, Answer]], None],
        refuse: Callable[[Write, Refused], None],
        is_stale: Callable[[Any], bool],
        on_room: Callable[[], None],
    ) -> None:
        self.breakers = {sink.name: CircuitBreaker(sink, backoff, steady_clock, stats) for sink in sinks}
        self._groups: dict[frozenset[str], CommitGroup] = {}
        self._limits = limits
        self._most = most
        self._most_bytes = most_bytes
        self._stats = stats
        self._clock = clock
        self._settle = settle
        self._refuse = refuse
        self._is_stale = is_stale
        self._on_room = on_room
        self._tasks: anyio.abc.TaskGroup | None = None

    def group(self, names: Iterable[str]) -> CommitGroup:
        """The group of the sinks called ``names``, made on first use. Unknown names are loud."""
        key = frozenset(names)
        found = self._groups.get(key)
        if found is None:
            missing = sorted(key - self.breakers.keys())
            if missing:
                raise LookupError(
                    f"no sink named {', '.join(missing)}; known sinks: {', '.join(sorted(self.breakers))}"
                )
            found = self._groups[key] = CommitGroup(
                tuple(sorted(key)),
                [self.breakers[name] for name in sorted(key)],
                self._limits,
                self._most,
                self._most_bytes,
                self._stats,
                self._clock,
                self._settle,
                self._refuse,
                self._is_stale,
                self._on_room,
            )
            if self._tasks is not None:
                self._tasks.start_soon(endless, found.run)
        return found

    def submit(self, write: Write) -> None:
        """Queue a write with the group of exactly the sinks that its effects name."""
        self.group({effect.sink for effect in write.effects}).submit((write,))

    @property
    def unfinished(self) -> int:
        """Writes that were submitted and are not yet committed."""
        return sum(group.unfinished for group in self._groups.values())

    @property
    def outages(self) -> dict[str, str]:
        """The sinks that are away right now, and why."""
        return {g.name: g.last_error for g in self.breakers.values() if g.down_since is not None}

    @property
    def waiting(self) -> list[Waiting]:
        """The groups that have something to commit, and no sink of theirs is away."""
        return [found for group in self._groups.values() if (found := group.waiting) is not None]

    def left(self) -> list[Write]:
        """What is not committed."""
        return [write for group in self._groups.values() for write in group.left()]

    def abandon(self) -> list[Write]:
        """Take back everything that is not committed; emitted effects, no message's own, are logged."""
        left = [write for group in self._groups.values() for write in group.abandon()]
        lost = Counter(type(e).__name__ for write in left if write.label == EMITTED for e in write.effects)
        if lost:
            log.error("effects_lost", total=lost.total(), kinds=dict(lost))
        return left

    async def run(self) -> None:
        """Commit until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                for group in self._groups.values():
                    tasks.start_soon(endless, group.run)
                await anyio.sleep_forever()
            finally:
                self._tasks = None
        raise RuntimeError("a group of the writer has ended")
