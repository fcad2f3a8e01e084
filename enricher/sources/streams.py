"""A Redis stream as a source: a consumer group whose entries are acknowledged by the commit.

    fresh       XREADGROUP hands entries over, ``prefetch`` under way at most; their leases are renewed for
                as long as they are under way, so a worker that is slow but alive keeps them
    finished    the commit lands the effects and acknowledges the entry in one script; so does the store of
                dead letters. What is no longer pending by then lands nothing (`Ack`)
    failed      a retry moves the entry to the delay set, in one script; when it is due, the first worker
                that looks moves it to the group's own stream ``again``, in one script, and any reads it
    left        entries of a worker that died are taken over when their lease has run out, without counting
                it; each is counted when it is handed over, and processed alone. One that was delivered
                ``max_deliveries`` times and never finished is a dead letter of stage `poison`
    lost        entries that were deleted while they were pending, and that nobody has in memory, are
                counted and logged
    handed back at the end, what is not finished is given up, and does not count as a delivery

A destroyed group is created again where it was, nothing is skipped and what is under way commits nothing
(it comes again). The group's routes must have ``live`` among their sinks, for that is what acknowledges.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import anyio
import msgspec
import redis.exceptions as errors
import structlog
from redis.asyncio import Redis

from enricher.connections import sibling_client
from enricher.engine.ports import Clock, Intake, Sink
from enricher.engine.retry import Backoff
from enricher.errors import EnricherError, SinkUnavailable
from enricher.sources.entries import EntryReader, Fields, GroupKeys, ReadEntry, StreamDelivery, aside
from enricher.sources.groups import StreamGroup

log = structlog.get_logger("enricher")

_BACKOFF = Backoff(base=0.05, cap=5.0)
_TRIM_EVERY = 10.0
# A consumer without entries that was silent for so many leases has left.
_GONE = 10


class Poison(EnricherError):
    """An entry that was delivered again and again and never finished."""


class LetterSink(Sink, Protocol):
    """A store of dead letters that lands acknowledgements with them."""

    async def count(self) -> int:
        """How many dead letters there are."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How a source treats its stream; times are seconds.

    ``batch`` entries per read, which waits ``block`` for them; ``prefetch`` entries under way; ``lease``
    after which others may take over; ``max_deliveries`` before an entry is poison; ``start`` of a new group
    ("0": everything, "$": what comes from now on, or an id); ``tick`` between looks at the delay set;
    ``timeout`` of a command. Trimming: with ``max_length`` to about so many entries, read or not; else, with
    ``trim``, of what all groups have acknowledged and is older than ``keep``.
    """

    batch: int = 100
    block: float = 2.0
    prefetch: int = 1000
    lease: float = 30.0
    max_deliveries: int = 3
    start: str = "0"
    tick: float = 0.25
    timeout: float = 5.0
    trim: bool = True
    keep: float = 60.0
    max_length: int = 0


class _Suspect(msgspec.Struct, frozen=True):
    """An entry to take, and the number of the delivery that this will be."""

    group: StreamGroup
    id: str
    delivery: int


class StreamSource:
    """Delivers the entries of ``stream`` to ``group``, as ``consumer``.

    ``client`` says where Redis is; the source reads and keeps its leases on clients of its own. ``letters``
    takes what cannot be understood and what is poison, under ``task_name``. ``topic`` (default: the stream's
    name) is that of entries which name none.
    """

    can_wait = True

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
        backoff: Backoff = _BACKOFF,
        name: str = "",
    ) -> None:
        self.name = name or f"stream {stream}"
        self.limits = limits or StreamLimits()
        self.keys = GroupKeys(stream, group)
        self.counts: Counter[str] = Counter()
        self.figures: dict[str, Any] = {}
        self.connected = False
        self.last_error = ""
        self._again = GroupKeys(self.keys.again, group)
        self._client = client
        self._consumer = consumer
        self._letters = letters
        self._clock = clock
        self._task_name = task_name or topic or stream
        self._backoff = backoff
        self._entries = EntryReader(
            topic or stream, self.keys.later, clock, read_entry, self._settled, self._extend
        )
        self._groups: tuple[StreamGroup, ...] = ()
        self._under_way: dict[tuple[str, str], StreamDelivery] = {}
        self._suspects: deque[_Suspect] = deque()
        self._given_up: list[StreamDelivery] = []
        self._waived: list[StreamDelivery] = []
        self._moved = asyncio.Event()
        self._ended = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._stopped = False
        self._lived = False
        self._scope: anyio.CancelScope | None = None
        self._reading: anyio.CancelScope | None = None

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Nothing to wait for: `run` keeps trying while the server is away."""

    async def run(self, intake: Intake) -> None:
        """Read until `stop_intake`, and keep the leases until nothing is under way any more."""
        attempt = 0
        try:
            with anyio.CancelScope() as self._scope:
                while not (self._stopped and not self._under_way):
                    try:
                        await self._serve(intake)
                    except* (errors.RedisError, OSError) as group:
                        self._lost(group)
                    attempt = 1 if self.connected else attempt + 1
                    self.connected = False
                    if not self._stopped or self._under_way:
                        await anyio.sleep(self._backoff.delay(attempt))
        finally:
            self.connected = False
            self._ended.set()

    async def _serve(self, intake: Intake) -> None:
        """Over one pair of connections: read, and keep house beside it."""
        reader, keeper = (sibling_client(self._client, protocol=2) for _ in range(2))
        self._groups = tuple(StreamGroup(keeper, keys, self._consumer) for keys in (self.keys, self._again))
        try:
            with anyio.fail_after(self.limits.timeout):
                await self._open()
                await self._take_up_own()
            self.connected, self._lived = True, True
            log.info("reading", source=self.name, group=self.keys.group, consumer=self._consumer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep_house)
                with anyio.CancelScope() as self._reading:
                    while not self._stopped:
                        await self._read(reader, intake)
                while self._under_way:
                    await self._something_moves()
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), suppress(Exception), anyio.move_on_after(1):
                await reader.aclose()
                await keeper.aclose()

    def _lost(self, group: BaseExceptionGroup[BaseException]) -> None:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = f"{type(error).__name__}: {error}"
        if "NOGROUP" in reason or "UNBLOCKED" in reason:
            return  # it is created again at once
        if reason != self.last_error or self.connected:
            log.warning("connection_lost", source=self.name, reason=reason)
        self.last_error = reason

    async def stop_intake(self) -> None:
        """Stop reading; leases are renewed until `close`."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()
        if self._scope is not None and not self.connected:
            self._scope.cancel()
        self._moved.set()

    async def close(self) -> None:
        """Give up what is not finished, so that others have it at once, and leave the group."""
        if self._scope is not None:
            self._scope.cancel()
            with anyio.move_on_after(2):
                await self._ended.wait()
        keeper = sibling_client(self._client, protocol=2)
        with suppress(errors.RedisError, OSError), anyio.fail_after(min(self.limits.timeout, 2.0)):
            for keys in (self.keys, self._again):
                group = StreamGroup(keeper, keys, self._consumer)
                await group.acknowledge([d.entry for d in self._waived if d.place == keys])
                # Those that wait to be taken were not delivered this time, all others were.
                waiting = {suspect.id for suspect in self._suspects if suspect.group.keys == keys}
                own = [left.id for left in await group.own()]
                await group.release([id_ for id_ in own if id_ not in waiting], self._lease_ms)
                await group.release([id_ for id_ in own if id_ in waiting], self._lease_ms, uncount=False)
                await group.leave()
        with suppress(Exception):
            await keeper.aclose()

    # -- reading -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        for group, start in zip(self._groups, (self.limits.start, "0"), strict=True):
            self.counts["created_again"] += await group.create(start)

    async def _take_up_own(self) -> None:
        """What this consumer was given and never acknowledged: in an earlier life, or in a lost reply."""
        held = {(suspect.group.keys, suspect.id): suspect for suspect in self._suspects}
        self._suspects.clear()
        for group in self._groups:
            for left in await group.own():
                if (group.keys.stream, left.id) in self._under_way:
                    continue
                known = held.get((group.keys, left.id))
                # Within one life it was never handed over, so this is no further delivery.
                again = left.deliveries + (not self._lived)
                number = known.delivery if known is not None else max(again, 1)
                self._suspects.append(_Suspect(group, left.id, number))

    async def _read(self, reader: Redis, intake: Intake) -> None:
        room = self.limits.prefetch - len(self._under_way)
        if self._suspects:
            await self._take(self._suspects[0], intake)
            return
        if room <= 0:
            await self._something_moves()
            return
        block = self.limits.block
        with anyio.fail_after(block + self.limits.timeout):
            found = await reader.xreadgroup(
                self.keys.group,
                self._consumer,
                {self.keys.stream: ">", self._again.stream: ">"},
                count=min(room, self.limits.batch),
                block=max(int(block * 1000), 1),
            )
        places = {keys.stream.encode(): keys for keys in (self.keys, self._again)}
        made = [
            self._made(places[stream], id_.decode(), fields)
            for stream, entries in cast("list[tuple[bytes, list[tuple[bytes, Fields]]]]", found)
            for id_, fields in entries
        ]
        for delivery, problem in made:
            await self._hand_over(delivery, problem, intake)

    def _made(
        self, keys: GroupKeys, id_: str, fields: Fields
    ) -> tuple[StreamDelivery, Exception | None]:
        """The delivery of an entry, known as under way, and what is wrong with it."""
        made = self._entries.delivery(keys, id_, fields)
        self._under_way[keys.stream, id_] = made[0]
        return made

    async def _hand_over(
        self, delivery: StreamDelivery, problem: Exception | None, intake: Intake
    ) -> None:
        if problem is not None:
            await self._set_aside(delivery, "decode", problem)
        elif delivery.unfinished >= self.limits.max_deliveries:
            why = f"delivered {delivery.unfinished} times and never finished: it may end whoever handles it"
            await self._set_aside(delivery, "poison", Poison(why))
        else:
            await intake.put(delivery)

    async def _take(self, suspect: _Suspect, intake: Intake) -> None:
        """Process an entry that was left by somebody: alone, if whoever had it may have died of it."""
        alone = suspect.delivery > 1
        if alone:
            await self._until_idle()
        async with self._one_at_a_time:
            with anyio.fail_after(self.limits.timeout):
                fields = await suspect.group.take(suspect.id, suspect.delivery)
        # Until now its lease was renewed with those that wait.
        self._suspects.remove(suspect)
        if fields is None:
            return
        if isinstance(fields, bool):
            self._note_lost(suspect.group, [suspect.id])
            return
        self.counts["recovered"] += 1
        delivery, problem = self._made(suspect.group.keys, suspect.id, fields)
        delivery.unfinished += suspect.delivery - 1
        await self._hand_over(delivery, problem, intake)
        if alone:
            await self._until_idle()

    async def _until_idle(self) -> None:
        """Wait for what is under way, though not for ever: one that takes long must not hold up the rest."""
        with anyio.move_on_after(self.limits.lease):
            while self._under_way:
                await self._something_moves()

    async def _something_moves(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    async def _set_aside(self, delivery: StreamDelivery, stage: str, error: Exception) -> None:
        """Store the dead letter and acknowledge, waiting out any outage of the store."""
        write = aside(delivery, self._task_name, stage, error, self._clock())
        self.counts["poison" if stage == "poison" else "undecodable"] += 1
        attempt = 0
        while True:
            try:
                await self._letters.commit([write])
                break
            except SinkUnavailable as outage:
                attempt += 1
                if attempt == 1:
                    log.warning("outage_begin", sink=self._letters.name, reason=outage.reason)
                await anyio.sleep(self._backoff.delay(attempt))
        self._settled(delivery, "dead")

    def _settled(self, delivery: StreamDelivery, label: str) -> None:
        """A delivery has left. Given up by the engine at the end, it stays ours until `close`."""
        if label == "lost":
            return
        self._under_way.pop((delivery.place.stream, delivery.entry), None)
        if label == "dropped":
            self._given_up.append(delivery)
        elif label == "conflated":
            self._waived.append(delivery)
        self._moved.set()

    # -- keeping house -----------------------------------------------------------------------------

    @property
    def _lease_ms(self) -> int:
        return max(int(self.limits.lease * 1000), 1)

    async def _keep_house(self) -> None:
        limits = self.limits
        due = dict.fromkeys(("renew", "sweep", "figures", "trim"), 0.0)
        every = {
            "renew": limits.lease / 3,
            "sweep": limits.lease / 2,
            "figures": min(1.0, limits.lease),
            "trim": min(_TRIM_EVERY, limits.lease),
        }
        while True:
            async with self._one_at_a_time:
                with anyio.fail_after(limits.timeout):
                    await self._hand_back()
                    await self._groups[0].come_back(self._clock() // 1000, self._again.stream)
                    now = anyio.current_time()
                    for task in [task for task, at in due.items() if at <= now]:
                        due[task] = now + every[task]
                        await getattr(self, f"_{task}")()
            await anyio.sleep(limits.tick)

    async def _hand_back(self) -> None:
        """What the pool dropped comes again later; what it conflated is done with."""
        for group in self._groups:
            given_up = [d for d in self._given_up if d.place == group.keys]
            waived = [d for d in self._waived if d.place == group.keys]
            await group.release([d.entry for d in given_up], self._lease_ms)
            await group.acknowledge([d.entry for d in waived])
            # Only what was dealt with: more may have come while we waited.
            self._given_up = [d for d in self._given_up if d not in given_up]
            self._waived = [d for d in self._waived if d not in waived]

    async def _renew(self) -> None:
        for group in self._groups:
            ids = [id_ for stream, id_ in self._under_way if stream == group.keys.stream]
            ids += [suspect.id for suspect in self._suspects if suspect.group.keys == group.keys]
            for id_ in await group.renew(ids):
                delivery = self._under_way.get((group.keys.stream, id_))
                if delivery is not None:
                    # The first time it may be that its commit has landed and we do not know yet.
                    delivery.missed += 1
                    self.counts["lapsed"] += delivery.missed == 2

    async def _sweep(self) -> None:
        """Take over what dead workers left; what is lost is found on the way."""
        for group in self._groups:
            begin = "0-0"
            while not self._suspects and not self._stopped:
                begin, left, gone = await group.sweep(self._lease_ms, begin)
                self._note_lost(group, gone)
                self._suspects += [
                    _Suspect(group, entry.id, entry.deliveries + 1)
                    for entry in left
                    if (group.keys.stream, entry.id) not in self._under_way
                ]
                if begin == "0-0":
                    break
            await group.tidy(self._lease_ms * _GONE)

    async def _trim(self) -> None:
        keep_from_ms = self._clock() // 1000 - int(self.limits.keep * 1000)
        if self.limits.max_length:
            await self._groups[0].trim_to(self.limits.max_length)
        elif self.limits.trim:
            await self._groups[0].trim(keep_from_ms)
        await self._groups[1].trim(keep_from_ms)

    async def _figures(self) -> None:
        again = await self._groups[1].figures()
        self.figures = await self._groups[0].figures()
        self.figures["retrying"] = int(again.get("pending", 0)) + int(again.get("lag") or 0)
        # The store may be in another Redis, whose troubles are none of ours.
        with suppress(errors.RedisError, OSError), anyio.fail_after(1):
            self.figures["dead_letters"] = await self._letters.count()

    async def _extend(self, delivery: StreamDelivery) -> None:
        for group in self._groups:
            if group.keys == delivery.place:
                async with self._one_at_a_time:
                    with anyio.fail_after(self.limits.timeout):
                        await group.renew([delivery.entry])

    def _note_lost(self, group: StreamGroup, ids: Sequence[str]) -> None:
        gone = [id_ for id_ in ids if (group.keys.stream, id_) not in self._under_way]
        if gone:
            self.counts["lost"] += len(gone)
            log.error("entries_lost", stream=group.keys.stream, group=group.keys.group, ids=gone[:100])

    def health(self) -> Mapping[str, Any]:
        """Connected or not; length, lag, pending, delayed, dead letters; what was recovered, lost, poison."""
        return {
            "ready": self.connected,
            "last_error": self.last_error,
            "stream": self.keys.stream,
            "group": self.keys.group,
            "consumer": self._consumer,
            "under_way": len(self._under_way),
            "waiting_alone": len(self._suspects),
            **self.figures,
            **{name: self.counts[name] for name in _COUNTS},
        }


_COUNTS = ("recovered", "poison", "undecodable", "lost", "lapsed", "created_again")
