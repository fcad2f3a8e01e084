"""A Redis stream as a source: a consumer group whose entries are acknowledged by the commit.

    fresh       XREADGROUP hands entries over, ``prefetch`` under way at most; their leases are renewed for
                as long as they are under way, so a worker that is slow but alive keeps them
    finished    the commit lands the effects and acknowledges the entry in one script; so does the store of
                dead letters. What is no longer pending by then lands nothing (`Ack`)
    failed      a retry moves the entry to the delay set, in one script; when it is due, the first worker
                that looks moves it to the group's own stream ``again``, in one script, and any reads it
    left        entries of a worker that died are taken over when their lease has run out, without counting
                it, and processed apart from all others: many at first in companies, which counts for none
                of them, then one by one, which counts (`suspects`). One that was delivered
                ``max_deliveries`` times and never finished is a dead letter of stage `poison`
    lost        entries that were deleted while they were pending, and that nobody has in memory, or before
                anybody had read them, are counted and logged, once (`ledger`)
    handed back at the end, what is not finished is given up, and does not count as a delivery

A destroyed group is created again where it was. What is under way then is committed, and marked, for it
will be delivered again. The routes must have ``live`` among their sinks, for that is what acknowledges: a
message of one that has not is a dead letter, which says so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import anyio
import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.reconnect import BACKOFF, Connection, ending, own_client, reconnecting
from enricher.adapters.redis.stream.entry import (
    EntryReader,
    Fields,
    GroupKeys,
    ReadEntry,
    StreamDelivery,
    entries_of,
)
from enricher.adapters.redis.stream.group import ACKNOWLEDGE, PAGE, StreamGroup
from enricher.adapters.redis.stream.leases import Holdings, House, LetterSink, StreamLimits
from enricher.adapters.redis.stream.quarantine import COMPANIES, FIRST, Suspect, Trial, next_trial
from enricher.engine.ports import Clock, Intake
from enricher.engine.retry import Backoff
from enricher.errors import EnricherError
from enricher.log import log


class Poison(EnricherError):
    """An entry that was delivered again and again and never finished."""


class StreamSource:
    """Delivers the entries of ``stream`` to ``group``, as ``consumer``.

    ``client`` says where Redis is; the source reads and keeps its leases on clients of its own. What
    cannot be understood and what is poison is set aside by the intake, under ``task_name`` if its topic has
    no route; ``letters``, where it ends, says how many there are. ``topic`` (default: the stream's name) is
    that of entries which name none.

    A group that shares a stream with others may keep only some entries: ``keeps`` is asked with topic and
    body, the others are acknowledged at once. ``siblings`` are groups that must exist before anything is
    trimmed. With ``sole`` nobody else may be reading for the group: what others hold is taken over at the
    start, without waiting for their leases. ``on_handed`` may be set: it is called with what was handed over.
    """

    def __init__(
        self,
        client: Redis,
        stream: str,
        *,
        group: str,
        consumer: str,
        letters: LetterSink,
        clock: Clock,
        topic: str = "",
        task_name: str = "",
        read_entry: ReadEntry | None = None,
        limits: StreamLimits | None = None,
        backoff: Backoff = BACKOFF,
        name: str = "",
        keeps: Callable[[str, bytes], bool] | None = None,
        sole: bool = False,
        siblings: Sequence[str] = (),
    ) -> None:
        self.name = name or f"stream {stream}"
        self.limits = limits or StreamLimits()
        self.keys = GroupKeys(stream, group)
        self._again = GroupKeys(self.keys.again, group)
        self._client = client
        self._consumer = consumer
        self._letters = letters
        self._topic = topic or stream
        self._task_name = task_name or self._topic
        # A group that is gone is created again at once.
        self._connection = Connection(self.name, backoff, expected=("NOGROUP", "UNBLOCKED"))
        self._keeps = keeps
        self._sole = sole
        self._siblings = siblings
        self._held = Holdings()
        self._house: House | None = None
        self._entries = EntryReader(
            topic or stream, self.keys.later, clock, read_entry, self._held.settled
        )
        self.on_handed: Callable[[StreamDelivery], None] | None = None
        # Read, and not yet with the pool.
        self._ready: deque[tuple[StreamDelivery, Exception | None]] = deque()
        self._ended = asyncio.Event()
        self._stopped = False
        self._lived_since: float | None = None
        self._largest = FIRST
        self._scope: anyio.CancelScope | None = None
        self._reading: anyio.CancelScope | None = None

    # -- life --------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether it reads."""
        return self._connection.works

    async def run(self, intake: Intake) -> None:
        """Read until `stop_intake`, and keep the leases until nothing is under way any more."""
        try:
            with anyio.CancelScope() as self._scope:
                await reconnecting(self._connection, lambda: self._serve(intake), wanted=self._is_wanted)
        finally:
            self._connection.works = False
            self._ended.set()

    def _is_wanted(self) -> bool:
        return not self._stopped or bool(self._held.under_way)

    async def _serve(self, intake: Intake) -> None:
        """Over one pair of connections: read, and keep house beside it."""
        keeper = sibling_client(self._client, protocol=2)
        # Its own parser and pool cost redis-py ten times as much a read, and reads are many and small.
        link = RawConnection(sibling_client(self._client, protocol=2), timeout=None)
        groups = self._groups_over(keeper)
        house = self._house = House(groups, self._held, self.limits, self._letters)
        async with ending(link.close, keeper.aclose):
            with anyio.fail_after(self.limits.timeout):
                await self._open(groups)
                await self._take_up_own(groups)
                await house.measure()
            self._connection.up()
            self._lived_since = self._lived_since or anyio.current_time()
            log.info("reading", source=self.name, group=self.keys.group, consumer=self._consumer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(house.run)
                with anyio.CancelScope() as self._reading:
                    while not self._stopped:
                        await self._read(link, house, intake)
                while self._held.under_way:
                    await self._held.something_moves()
                tasks.cancel_scope.cancel()

    async def stop_intake(self) -> None:
        """Stop reading; leases are renewed until `close`."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()
        if self._scope is not None and not self.connected:
            self._scope.cancel()
        self._held.moved.set()

    async def close(self) -> None:
        """Give up what is not finished, so that others have it at once, and leave the group."""
        if self._scope is not None:
            self._scope.cancel()
            with anyio.move_on_after(2):
                await self._ended.wait()
        async with own_client(self._client) as client:
            house = House(self._groups_over(client), self._held, self.limits, self._letters)
            with suppress(errors.RedisError, OSError), anyio.fail_after(min(self.limits.timeout, 2.0)):
                await house.leave()

    # -- reading -----------------------------------------------------------------------------------

    def _groups_over(self, client: Redis) -> tuple[StreamGroup, StreamGroup]:
        return (
            StreamGroup(client, self.keys, self._consumer),
            StreamGroup(client, self._again, self._consumer),
        )

    async def _open(self, groups: Sequence[StreamGroup]) -> None:
        for group in groups:
            await group.check_keys()
        for group, start in zip(groups, (self.limits.start, "0"), strict=True):
            # Before, since a stream made anew is begun at its beginning; after, since then there is a group.
            await self._held.look(group)
            self._held.counts["created_again"] += await group.create(start)
            await self._held.look(group)
        for name in self._siblings:
            await groups[0].beside(name).create(self.limits.start)
        if self._sole and self._lived_since is None:
            for group in groups:
                begin = "0-0"
                while True:
                    begin, _, gone = await group.sweep(0, begin)
                    self._held.note_lost(group, gone)
                    if begin == "0-0":
                        break

    async def _take_up_own(self, groups: Sequence[StreamGroup]) -> None:
        """What this consumer was given and never acknowledged: in an earlier life, or in a lost reply."""
        held = {(suspect.group.keys, suspect.id): suspect for suspect in self._held.suspects}
        self._held.suspects.clear()
        for group in groups:
            found = await group.own()
            exposed = await group.exposed() if found else {}
            in_hand = self._held.in_hand(group)
            for left in found:
                if left.id in in_hand:
                    continue
                known = held.get((group.keys, left.id))
                # Within one life it was never handed over, so this is no further delivery.
                again = left.deliveries + (self._lived_since is None)
                made = Suspect(group, left.id, max(again, 1), exposed.get(left.id, 0))
                if known is not None:
                    made = msgspec.structs.replace(known, group=group)
                self._held.suspects.append(made)

    async def _read(self, link: RawConnection, house: House, intake: Intake) -> None:
        await self._hand_over(intake)
        if self._cannot_begin(intake):
            await anyio.sleep(self.limits.tick)
            return
        room = self.limits.prefetch - len(self._held.under_way)
        suspects, most = self._held.suspects, self.limits.max_deliveries
        trial = next_trial(suspects, most, self._lived, self._largest)
        if trial.suspects:
            await self._take(trial, house, intake)
            return
        if room <= 0:
            await self._held.something_moves()
            return
        due = min((suspect.waits(most) for suspect in suspects), default=inf)
        block = max(min(self.limits.block, (due - self._lived) * self.limits.lease), 0.001)
        link.timeout = block + self.limits.timeout
        reply = await link.call(
            *("XREADGROUP", "GROUP", self.keys.group, self._consumer),
            *("COUNT", min(room, self.limits.batch), "BLOCK", int(block * 1000)),
            *("STREAMS", self.keys.stream, self._again.stream, ">", ">"),
        )
        read = entries_of(reply, (self.keys, self._again))
        if self._keeps is None:
            self._ready += [self._made(*entry) for entry in read]
        elif read:
            await self._sift(link, read)

    async def _sift(self, link: RawConnection, read: Sequence[tuple[GroupKeys, str, Fields]]) -> None:
        """Keep the entries that are ours, and acknowledge the others."""
        others: dict[GroupKeys, list[str]] = {}
        for entry in read:
            made = self._made(*entry)
            if self._is_ours(made[0]):
                self._ready.append(made)
            else:
                del self._held.under_way[entry[0].stream, entry[1]]
                others.setdefault(entry[0], []).append(entry[1])
        if others:
            link.timeout = self.limits.timeout
            calls = [["1", keys.stream, keys.group, *ids] for keys, ids in others.items()]
            await link.run(ACKNOWLEDGE, *calls)

    def _is_ours(self, delivery: StreamDelivery) -> bool:
        return self._keeps is None or self._keeps(delivery.topic, delivery.body)

    def _made(
        self, keys: GroupKeys, id_: str, fields: Fields
    ) -> tuple[StreamDelivery, Exception | None]:
        """The delivery of an entry, known as under way, and what is wrong with it."""
        known = self._held.ledgers.get(self.keys)
        self._entries.life = "" if known is None else known.life
        made = self._entries.delivery(keys, id_, fields)
        self._held.under_way[keys.stream, id_] = made[0]
        return made

    async def _hand_over(self, intake: Intake) -> None:
        """Hand over what was read; a connection that ends meanwhile leaves the rest for the next one."""
        while self._ready:
            delivery, problem = self._ready[0]
            if problem is not None:
                self._set_aside(delivery, "decode", problem, intake)
            elif (times := delivery.left) >= self.limits.max_deliveries:
                why = f"delivered {times} times and never finished: it may end whoever handles it"
                self._set_aside(delivery, "poison", Poison(why), intake)
            elif intake.full_for(delivery):
                await intake.put(delivery)
            else:
                intake.offer(delivery)
            self._ready.popleft()
            if self.on_handed is not None:
                self.on_handed(delivery)

    def _cannot_begin(self, intake: Intake) -> bool:
        """Whether what comes is for other workers, for here it could not begin."""
        stuck: Callable[[str], bool] | None = getattr(intake, "stuck", None)
        return stuck is not None and stuck(self._topic)

    @property
    def _lived(self) -> float:
        """For how many leases this worker has lived."""
        since = anyio.current_time() if self._lived_since is None else self._lived_since
        return (anyio.current_time() - since) / self.limits.lease

    async def _take(self, trial: Trial, house: House, intake: Intake) -> None:
        """Process entries that were left by somebody: apart, if whoever had them may have died of one."""
        if trial.apart:
            await self._until_idle()
        for group in {suspect.group.keys: suspect.group for suspect in trial.suspects}.values():
            await self._take_from(group, trial, house)
        await self._hand_over(intake)
        if trial.apart:
            await self._until_idle()
        if trial.exposes:
            self._largest = min(2 * self._largest, COMPANIES[0])
            await self._clear(trial, house)

    async def _take_from(self, group: StreamGroup, trial: Trial, house: House) -> None:
        taken = [suspect for suspect in trial.suspects if suspect.group.keys == group.keys]
        for at in range(0, len(taken), PAGE):
            await self._take_page(group, taken[at : at + PAGE], trial.exposes, house)

    async def _take_page(
        self, group: StreamGroup, taken: Sequence[Suspect], exposes: int, house: House
    ) -> None:
        numbers = [(suspect.id, suspect.delivery - bool(exposes)) for suspect in taken]
        async with house.lock:
            with anyio.fail_after(self.limits.timeout):
                found = await group.take(numbers, exposes=exposes)
        for suspect, fields in zip(taken, found, strict=True):
            # Until now its lease was renewed with those that wait.
            self._held.suspects.remove(suspect)
            if fields is None:
                continue
            if isinstance(fields, bool):
                self._held.note_lost(suspect.group, [suspect.id], counted=False)
                continue
            self._held.counts["recovered"] += 1
            delivery, problem = self._made(suspect.group.keys, suspect.id, fields)
            delivery.left = suspect.delivery - 1
            delivery.unfinished += delivery.left
            delivery.counted = not exposes
            if self._is_ours(delivery):
                self._ready.append((delivery, problem))
            else:
                self._held.settled(delivery, "conflated")

    async def _clear(self, trial: Trial, house: House) -> None:
        """Forget that those were in a company who came out of it."""
        for group in {suspect.group.keys: suspect.group for suspect in trial.suspects}.values():
            stream = group.keys.stream
            mine = [suspect.id for suspect in trial.suspects if suspect.group.keys == group.keys]
            async with house.lock:
                with anyio.fail_after(self.limits.timeout):
                    await group.cleared([id_ for id_ in mine if (stream, id_) not in self._held.under_way])

    async def _until_idle(self) -> None:
        """Wait for what is under way, though not for ever: one that takes long must not hold up the rest."""
        with anyio.move_on_after(self.limits.lease):
            while self._held.under_way:
                await self._held.something_moves()

    def _set_aside(
        self, delivery: StreamDelivery, stage: str, error: Exception, intake: Intake
    ) -> None:
        self._held.counts["poison" if stage == "poison" else "undecodable"] += 1
        delivery.attempts += delivery.unfinished
        intake.set_aside(delivery, stage, error, self._task_name)

    def health(self) -> Mapping[str, Any]:
        """Connected or not; length, lag, pending, delayed, dead letters; what was recovered, lost, poison."""
        return {
            "ready": self.connected,
            "last_error": self._connection.last_error,
            "stream": self.keys.stream,
            "group": self.keys.group,
            "consumer": self._consumer,
            "under_way": len(self._held.under_way),
            "waiting_alone": len(self._held.suspects),
            **({} if self._house is None else self._house.figures),
            **{name: self._held.counts[name] for name in _COUNTS},
            "entries_lost": self._held.entries_lost,
        }


_COUNTS = ("recovered", "poison", "undecodable", "lost", "lapsed", "created_again")
