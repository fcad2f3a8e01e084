"""Group commit: durable sinks first, visible sinks second, in order, batches as they gather.

Of the durable ones those come last that are derived from the others, such as an index for searching.

Routes that name the same sinks share a `CommitGroup`. A group has two stages, each with one commit in flight,
so batch k+1 may be in the durable sinks while batch k is in the visible ones, effects never overtake each
other, and a slow sink of one group does not hold another. A stage takes what has gathered while it was busy:
a lone write at once, a flood in large batches. Between the two it waits for company where ``writer.gather``
says how long (`gathering`).

An outage of a sink is nobody's fault: its `CircuitBreaker` repeats the commit for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import accumulate
from time import monotonic
from typing import Any

import anyio

from enricher.config import WriterSettings
from enricher.engine.circuit_breaker import Batch, CircuitBreaker
from enricher.engine.effects import EMITTED, SETTLED, Effect
from enricher.engine.gathering import Gathering
from enricher.engine.ports import Answer, Clock, Refused, Sink, Stored, Write, steady_clock
from enricher.engine.retry import Backoff
from enricher.engine.stalls import Waiting
from enricher.engine.stats import Stats
from enricher.engine.supervision import endless
from enricher.log import log

# Writes that join a batch of which nothing is written, to see whether they are.
_MORE = 8

Answers = Mapping[int, Answer]


class CommitGroup:
    """The two stages that the writes of some routes pass, first in, first out."""

    def __init__(self, names: frozenset[str], writer: Writer) -> None:
        self.names = names
        self.accepted: set[type[Effect]] = set()
        """Kinds of effects that were seen to name a sink of this group."""
        self.unfinished = 0
        self.commits = 0
        breakers = [writer.breakers[name] for name in sorted(names)]
        durable = [breaker for breaker in breakers if breaker.sink.durable]
        self.prepare: Sequence[Callable[[Write], None]] = [
            breaker.sink.prepare for breaker in durable if hasattr(breaker.sink, "prepare")
        ]
        """What is called for the write of each large message when it is made."""
        self._derived = [breaker for breaker in durable if getattr(breaker.sink, "derived", False)]
        self._durable = [breaker for breaker in durable if breaker not in self._derived]
        self._visible = [breaker for breaker in breakers if not breaker.sink.durable]
        self._writer = writer
        self._limits = writer.limits
        self._capacity = writer.limits.max_batch * writer.limits.backlog
        self._gathering = Gathering(writer.limits.gather, writer.limits.max_batch)
        # What waits for the first stage, is in it, waits for the second, is in it.
        self._pending: Batch = []
        self._durable_batch: Batch = []
        self._handed: Batch = []
        self._visible_batch: Batch = []
        self._bytes = 0
        # Owners whose state holds what was refused.
        self._stale: set[Any] = set()
        self._arrived = asyncio.Event()
        self._handed_over = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more writes the group takes before its callers should wait (may be negative)."""
        if self._bytes >= self._writer.most_bytes:
            return 0
        return min(self._capacity - len(self._pending), self._writer.most - self.unfinished)

    @property
    def room_bytes(self) -> int:
        """How many more bytes of bodies the group takes before its callers should wait."""
        return self._writer.most_bytes - self._bytes

    def submit(self, writes: Iterable[Write]) -> None:
        """Queue ``writes``; never waits (ask `room` first)."""
        added = tuple(writes)
        self._pending += added
        self.unfinished += len(added)
        for write in added:
            if write.delivery is not None:
                write.body_size = size = len(write.delivery.body)
                self._bytes += size
        self._arrived.set()

    @property
    def waiting(self) -> Waiting | None:
        """That what it took is not committed, unless one of its sinks is unreachable."""
        breakers = (*self._durable, *self._derived, *self._visible)
        if not self.unfinished or any(breaker.down_since is not None for breaker in breakers):
            return None
        names = ", ".join(sorted(self.names))
        return Waiting(f"{self.unfinished} writes to {names}", "no commit has ended", self.commits)

    def left(self) -> Batch:
        return [*self._visible_batch, *self._handed, *self._durable_batch, *self._pending]

    def abandon(self) -> Batch:
        """What has not been committed, when there is no time left; it is never settled after this."""
        left = self.left()
        self._visible_batch, self._handed, self._durable_batch, self._pending = [], [], [], []
        return left

    async def run(self) -> None:
        """Commit until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run_durable)
            tasks.start_soon(self._run_visible)
        raise RuntimeError(f"a stage of the writer to {', '.join(sorted(self.names))} has ended")

    # Batches are attributes and no variables of these loops: nothing may keep what is committed alive until
    # the next message, perhaps hours away. An abandoned batch is empty, whatever its stage was about to do.

    async def _run_durable(self) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            if wait := self._gathering.begin(len(self._pending), monotonic()):
                await asyncio.sleep(wait)
            self._durable_batch = self._take()
            self._writer.on_room()
            self._drop_stale()
            if self._durable and self._durable_batch:
                await self._store()
                self._drop_stale()
            if self._derived and self._durable_batch:
                await self._derive()
                self._drop_stale()
            # One batch may wait behind the one in the visible sinks, no more: what
            # gathers meanwhile makes the next batch larger instead.
            while self._handed and self._durable_batch:
                self._taken.clear()
                await self._taken.wait()
            if self._durable_batch:
                self._handed, self._durable_batch = self._durable_batch, []
                self._handed_over.set()

    async def _store(self) -> None:
        answers = await self._commit(self._durable, self._durable_batch, "durable", self._add_pending)
        if answers:
            self._durable_batch, _ = self._without_refused(self._durable_batch, answers)

    async def _derive(self) -> None:
        """Write what is derived from what was stored, then store what the answers lead to."""
        names = {breaker.name for breaker in self._derived}
        if not any(effect.sink in names for write in self._durable_batch for effect in write.effects):
            return
        answers = await self._commit(self._derived, self._durable_batch, "durable", None)
        following = follow(self._durable_batch, names, answers)
        if answers:
            self._durable_batch, _ = self._without_refused(self._durable_batch, answers)
        own, stored = {breaker.name for breaker in self._durable}, list[Write]()
        for write in following:
            if own.issuperset(effect.sink for effect in write.effects):
                stored.append(write)
            else:
                self._writer.submit(write)
        if stored:
            for index, answer in (await self._commit(self._durable, stored, "durable", None)).items():
                if isinstance(answer, Refused):
                    self._writer.refuse(stored[index], answer)

    async def _run_visible(self) -> None:
        while True:
            while not self._handed:
                self._handed_over.clear()
                await self._handed_over.wait()
            self._visible_batch, self._handed = self._handed, []
            self._taken.set()
            await self._show()

    async def _show(self) -> None:
        answers: Answers = {}
        if self._visible:
            answers = await self._commit(self._visible, self._visible_batch, "visible", self._add_handed)
        if not self._visible_batch:
            return
        done, self._visible_batch = self._visible_batch, []
        if Refused in map(type, answers.values()):
            done, answers = self._without_refused(done, answers)
        self.commits += 1
        self.unfinished -= len(done)
        self._bytes -= sum([write.body_size for write in done])
        self._writer.settle(done, answers)
        self._writer.on_room()

    def _take(self) -> Batch:
        """What goes into one commit: as much as has gathered, and at least one write."""
        sizes = accumulate([write.body_size for write in self._pending[: self._limits.max_batch]])
        return self._taken_from_pending(bisect_right([*sizes], self._limits.max_batch_bytes) or 1)

    def _taken_from_pending(self, number: int) -> Batch:
        batch = self._pending[:number]
        del self._pending[:number]
        return batch

    def _add_pending(self) -> int:
        """Let a few more of what waits join the batch in the durable sinks."""
        number = min(_MORE, 2 * self._limits.max_batch - len(self._durable_batch))
        more = self._taken_from_pending(number) if self._durable_batch and number > 0 else []
        self._durable_batch += more
        return len(more)

    def _add_handed(self) -> int:
        """Let the next batch join the one in the visible sinks."""
        if not self._visible_batch or len(self._visible_batch) >= 2 * self._limits.max_batch:
            return 0
        more, self._handed = self._handed, []
        self._visible_batch += more
        self._taken.set()
        return len(more)

    async def _commit(
        self, breakers: list[CircuitBreaker], batch: Batch, stage: str, more: Callable[[], int] | None
    ) -> Answers:
        stats, clock = self._writer.stats, self._writer.clock
        began, first = clock(), batch[0].delivery
        topic, key = (first.topic, first.key) if first is not None else (stage, None)
        shown = f"{topic} (+{len(batch) - 1})" if len(batch) > 1 else topic
        row = stats.in_flight.begin(shown, key, 1, began, stage)
        try:
            if len(breakers) == 1:
                answers = await breakers[0].commit(batch, more)
            else:
                answers = await _commit_to_all(breakers, batch)
        finally:
            stats.in_flight.end(row)
        stats.histograms[stage].record(clock() - began)
        return answers

    def _without_refused(self, batch: Batch, answers: Answers) -> tuple[Batch, Answers]:
        """The batch without the refused writes, stored ones showing what was stored; its other answers."""
        kept: Batch = []
        others: dict[int, Answer] = {}
        self.commits += 1
        for index, write in enumerate(batch):
            answer = answers.get(index)
            if isinstance(answer, Refused):
                self.unfinished -= 1
                self._bytes -= write.body_size
                self._writer.refuse(write, answer)
                if self._writer.is_stale(write.owner):
                    self._stale.add(write.owner)
                self._writer.on_room()
                continue
            if isinstance(answer, Stored):
                replace_visible(write, answer)
            elif answer is not None:
                others[len(kept)] = answer
            kept.append(write)
        return kept, others

    def _drop_stale(self) -> None:
        """Drop what states show that hold something refused: they are restored anew, and show it then."""
        if not self._stale:
            return
        self._stale = {owner for owner in self._stale if self._writer.is_stale(owner)}
        kept, void = list[Write](), list[Write]()
        for write in self._durable_batch:
            (void if write.label == SETTLED and write.owner in self._stale else kept).append(write)
        if void:
            self._durable_batch = kept
            self.unfinished -= len(void)
            self._writer.settle(void, {})


async def _commit_to_all(breakers: Sequence[CircuitBreaker], batch: Batch) -> Answers:
    answers: dict[int, Answer] = {}

    async def commit(breaker: CircuitBreaker) -> None:
        for index, answer in (await breaker.commit(batch)).items():
            if not isinstance(answers.get(index), Refused):
                answers[index] = answer

    async with anyio.create_task_group() as tasks:
        for breaker in breakers:
            tasks.start_soon(commit, breaker)
    return answers


def follow(batch: Batch, sinks: Container[str], answers: Answers) -> Batch:
    """Writes of what effects for ``sinks`` lead to, now that these have answered.

    Those of refused writes are kept for their dead letters.
    """
    following = list[Write]()
    for index, write in enumerate(batch):
        answer = answers.get(index)
        why = answer.reason if isinstance(answer, Refused) else None
        effects = tuple(
            effect
            for cause in write.effects
            if cause.sink in sinks and (answered := getattr(cause, "answered", None)) is not None
            for effect in answered(why)
        )
        if why is not None:
            write.failed = effects
        elif effects:
            following.append(Write(effects))
    return following


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
    """All groups and the circuit breakers they share.

    A group takes no more while ``most`` writes or ``most_bytes`` of bodies of its own are not committed: what
    is with the writer can be neither dropped nor conflated, so most of a full pool must still wait in lanes.
    Whoever it serves sets four functions before it runs: ``settle`` is told what is committed, ``refuse``
    what never is, ``is_stale`` says whether the state of an owner holds what was refused, and ``on_room`` is
    called when there may be room again.
    """

    settle: Callable[[Batch, Answers], None]
    refuse: Callable[[Write, Refused], None]
    is_stale: Callable[[Any], bool]
    on_room: Callable[[], None]

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
    ) -> None:
        self.breakers = {sink.name: CircuitBreaker(sink, backoff, steady_clock, stats) for sink in sinks}
        self.limits = limits
        self.most = most
        self.most_bytes = most_bytes
        self.stats = stats
        self.clock = clock
        self._groups: dict[frozenset[str], CommitGroup] = {}
        self._tasks: anyio.abc.TaskGroup | None = None

    def group(self, names: Iterable[str]) -> CommitGroup:
        """The group of the sinks called ``names``, made on first use. Unknown names are loud."""
        key = frozenset(names)
        group = self._groups.get(key)
        if group is None:
            missing = sorted(key - self.breakers.keys())
            if missing:
                raise LookupError(
                    f"no sink named {', '.join(missing)}; known sinks: {', '.join(sorted(self.breakers))}"
                )
            group = self._groups[key] = CommitGroup(key, self)
            if self._tasks is not None:
                self._tasks.start_soon(endless, group.run)
        return group

    def submit(self, write: Write) -> None:
        """Queue a write with the group of exactly the sinks that its effects name."""
        self.group({effect.sink for effect in write.effects}).submit((write,))

    @property
    def unfinished(self) -> int:
        return sum(group.unfinished for group in self._groups.values())

    @property
    def outages(self) -> dict[str, str]:
        """The sinks that are unreachable right now, and why."""
        return {g.name: g.last_error for g in self.breakers.values() if g.down_since is not None}

    @property
    def waiting(self) -> list[Waiting]:
        """The groups that have something to commit, and no sink of theirs is unreachable."""
        return [waiting for group in self._groups.values() if (waiting := group.waiting) is not None]

    def left(self) -> list[Write]:
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
