"""A Redis stream as a source: a consumer group whose entries are acknowledged by the commit.

    fresh       XREADGROUP hands entries over, ``prefetch`` under way at most; their leases are renewed for
                as long as they are under way, so a worker that is slow but alive keeps them; by a thread
                while a handler holds up the loop (`lease_thread`)
    finished    the commit writes the effects and acknowledges the entry in one script; so does the store of
                dead letters. What is no longer pending by then writes nothing (`Ack`)
    failed      a retry moves the entry to the delay set, in one script; when it is due, the first worker
                that looks moves it to the group's own stream ``again``, in one script, and any reads it
    left        entries of a worker that died are taken over when their lease has run out, without counting
                it, and processed apart from all others: many at first in cohorts, which counts for none
                of them, then one by one, which counts (`quarantine`). One that was delivered
                ``max_deliveries`` times and never finished is a dead letter of stage `poison`
    lost        entries that were deleted while they were pending, and that nobody has in memory, or before
                anybody had read them, are counted and logged, once (`ledger`)
    handed back at the end, what is not finished is given up, and does not count as a delivery; what a thread
                still runs keeps its lease, which lapses by itself

A destroyed group is created again where it was. What is under way then is committed, and marked, for it
will be delivered again. The routes must have ``live`` among their sinks, for that is what acknowledges: a
message of one that has not is a dead letter, which says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

import anyio
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.reconnect import BACKOFF, Connection, ending, own_client, reconnecting
from enricher.adapters.redis.stream.entry import EntryReader, GroupKeys, ReadEntry, entries_of
from enricher.adapters.redis.stream.group import ACKNOWLEDGE, Groups
from enricher.adapters.redis.stream.in_flight import InFlight
from enricher.adapters.redis.stream.inbox import Inbox
from enricher.adapters.redis.stream.lease_thread import LeaseThread
from enricher.adapters.redis.stream.leases import LeaseMaintenance, Trimming
from enricher.adapters.redis.stream.ledger import Losses
from enricher.adapters.redis.stream.quarantine import COHORTS, FIRST_COHORT, Release, next_release
from enricher.config import StreamSettings
from enricher.dead_letters.sink import DeadLetterSink
from enricher.engine.ports import Clock, Intake
from enricher.engine.retry import Backoff
from enricher.log import log

_COUNTS = ("recovered", "poison", "undecodable", "lost", "lapsed", "created_again")


class StreamSource:
    """Delivers the entries of ``stream`` to ``group``, as ``consumer``.

    ``client`` says where Redis is; the source reads and keeps its leases on clients of its own. What
    cannot be understood and what is poison is set aside by the intake, under ``task_name`` if its topic has
    no route; ``dead_letters``, where it ends, says how many there are (None: nobody asks).
    ``topic`` (default: the stream's
    name) is that of entries which name none. A new group begins at ``start`` ("0": everything, "$": what
    comes from now on, or an id). ``timeout`` (seconds) bounds a command, ``tick`` is between two looks at the
    delay set. Without ``trim`` the stream is left as it is.

    A group that shares a stream with others may keep only some entries: ``keeps`` is asked with topic and
    body, the others are acknowledged at once. ``siblings`` are groups that must exist before anything is
    trimmed. With ``sole`` nobody else may be reading for the group: what others hold is taken over at the
    start, without waiting for their leases. ``inbox`` has what was read and is not with the pool yet.
    """

    def __init__(
        self,
        client: Redis,
        stream: str,
        *,
        group: str,
        consumer: str,
        dead_letters: DeadLetterSink | None,
        clock: Clock,
        settings: StreamSettings,
        timeout: float = 5.0,
        start: str = "0",
        tick: float = 0.25,
        trim: bool = True,
        topic: str = "",
        task_name: str = "",
        read_entry: ReadEntry | None = None,
        backoff: Backoff = BACKOFF,
        name: str = "",
        keeps: Callable[[str, bytes], bool] | None = None,
        sole: bool = False,
        siblings: Sequence[str] = (),
    ) -> None:
        self.name = name or f"stream {stream}"
        self.keys = GroupKeys(stream, group)
        self._client = client
        self._consumer = consumer
        self._dead_letters = dead_letters
        self._settings = settings
        self._timeout = timeout
        self._start = start
        self._tick = tick
        self._topic = topic or stream
        # A group that is gone is created again at once.
        self._connection = Connection(self.name, backoff, expected=("NOGROUP", "UNBLOCKED"))
        self._sole = sole
        self._siblings = siblings
        self._in_flight = InFlight()
        self._losses = Losses(self._in_flight)
        self._trimming = Trimming(self._in_flight, settings, trim=trim)
        self._maintenance: LeaseMaintenance | None = None
        self.inbox = Inbox(
            EntryReader(self._topic, self.keys.later, clock, read_entry, self._in_flight.settled),
            self.keys,
            self._in_flight,
            self._losses,
            max_deliveries=settings.max_deliveries,
            task_name=task_name or self._topic,
            keeps=keeps,
        )
        self._lease_thread = LeaseThread(self.name, settings.lease, self._renew_apart)
        self._ended = asyncio.Event()
        self._stopped = False
        self._up_since: float | None = None
        self._largest_cohort = FIRST_COHORT
        self._scope: anyio.CancelScope | None = None
        self._reading: anyio.CancelScope | None = None

    # -- life --------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether it reads."""
        return self._connection.works

    async def run(self, intake: Intake) -> None:
        """Read until `stop_intake`, and keep the leases until nothing is under way any more."""
        self._lease_thread.begin()
        try:
            with anyio.CancelScope() as self._scope:
                await reconnecting(
                    self._connection,
                    lambda: self._serve(intake),
                    wanted=lambda: not self._stopped or bool(self._in_flight.under_way),
                )
        finally:
            self._connection.works = False
            self._ended.set()

    async def _serve(self, intake: Intake) -> None:
        """Over one pair of connections: read, and maintain the leases beside it."""
        client = sibling_client(self._client, protocol=2)
        # Its own parser and pool cost redis-py ten times as much a read, and reads are many and small.
        raw = RawConnection(sibling_client(self._client, protocol=2), timeout=None)
        groups = Groups(client, self.keys, self._consumer, self._timeout)
        maintenance = self._maintenance = self._maintain(groups)
        async with ending(raw.close, client.aclose):
            async with groups.turn():
                await maintenance.open(self._start, self._siblings)
                if self._sole and self._up_since is None:
                    await maintenance.recovery.take_over_all()
                await maintenance.recovery.take_up_own(first=self._up_since is None)
                await maintenance.measure()
            self._connection.up()
            self._up_since = self._up_since or anyio.current_time()
            log.info("reading", source=self.name, group=self.keys.group, consumer=self._consumer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(maintenance.run)
                with anyio.CancelScope() as self._reading:
                    while not self._stopped:
                        await self._read(raw, groups, maintenance, intake)
                while self._in_flight.under_way:
                    await self._in_flight.change()
                tasks.cancel_scope.cancel()

    def _maintain(self, groups: Groups) -> LeaseMaintenance:
        hands = self._in_flight, self._losses, self._trimming
        return LeaseMaintenance(groups, *hands, self._settings, self._dead_letters, self._tick)

    async def stop_intake(self) -> None:
        """Stop reading; leases are renewed until `close`."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()
        if self._scope is not None and not self.connected:
            self._scope.cancel()
        self._in_flight.wake()

    async def close(self) -> None:
        """Give up what is not finished, so that others have it at once, and leave the group.

        An entry that is still run, by a thread or by a task that ignores its cancellation, keeps its lease.
        """
        if self._scope is not None:
            self._scope.cancel()
            with anyio.move_on_after(2):
                await self._ended.wait()
        await self._lease_thread.end()
        async with own_client(self._client) as client:
            groups = Groups(client, self.keys, self._consumer, min(self._timeout, 2.0))
            with suppress(errors.RedisError, OSError):
                async with groups.turn():
                    await self._maintain(groups).leave()

    async def _renew_apart(self) -> None:
        """Renew the leases from another thread."""
        async with own_client(self._client, same_loop=False) as client:
            groups = Groups(client, self.keys, self._consumer, self._timeout)
            async with groups.turn():
                for group in groups:
                    await group.renew(self._in_flight.held(group.keys))

    # -- reading -----------------------------------------------------------------------------------

    async def _read(
        self, raw: RawConnection, groups: Groups, maintenance: LeaseMaintenance, intake: Intake
    ) -> None:
        await self.inbox.hand_over(intake)
        if self._cannot_begin(intake):
            await anyio.sleep(self._tick)
            return
        settings, quarantined = self._settings, self._in_flight.quarantined
        most, uptime = settings.max_deliveries, self._uptime
        release = next_release(quarantined, most, uptime, self._largest_cohort)
        if release.entries:
            await self._process(release, maintenance, intake)
            return
        room = settings.prefetch - len(self._in_flight.under_way)
        if room <= 0:
            await self._in_flight.change()
            return
        due = min((entry.min_uptime(most) for entry in quarantined), default=inf)
        block = max(min(settings.block, (due - uptime) * settings.lease), 0.001)
        raw.timeout = block + self._timeout
        reply = await raw.call(
            *("XREADGROUP", "GROUP", self.keys.group, self._consumer),
            *("COUNT", min(room, settings.batch), "BLOCK", int(block * 1000)),
            *("STREAMS", *(group.keys.stream for group in groups), ">", ">"),
        )
        others: dict[GroupKeys, list[str]] = {}
        for keys, id_, fields in entries_of(reply, [group.keys for group in groups]):
            if not self.inbox.add(keys, id_, fields):
                others.setdefault(keys, []).append(id_)
        if others:
            await self._acknowledge(raw, others)

    async def _acknowledge(self, raw: RawConnection, others: Mapping[GroupKeys, Sequence[str]]) -> None:
        """Acknowledge entries that are not for us."""
        raw.timeout = self._timeout
        calls = [["1", keys.stream, keys.group, *ids] for keys, ids in others.items()]
        await raw.run(ACKNOWLEDGE, *calls)

    def _cannot_begin(self, intake: Intake) -> bool:
        """Whether what comes is for other workers, for here it could not begin."""
        stuck: Callable[[str], bool] | None = getattr(intake, "stuck", None)
        return stuck is not None and stuck(self._topic)

    # -- what was left unfinished --------------------------------------------------------------------

    @property
    def _uptime(self) -> float:
        """For how many leases this worker has been up."""
        since = anyio.current_time() if self._up_since is None else self._up_since
        return (anyio.current_time() - since) / self._settings.lease

    async def _process(self, release: Release, maintenance: LeaseMaintenance, intake: Intake) -> None:
        """Process entries that were left by somebody: apart, if whoever had them may have died of one."""
        if release.apart:
            await self._until_idle()
        async for entry, fields in maintenance.recovery.take(release):
            self.inbox.add_left(entry, fields, counted=not release.exposes)
        await self.inbox.hand_over(intake)
        if release.apart:
            await self._until_idle()
        if release.exposes:
            self._largest_cohort = min(2 * self._largest_cohort, COHORTS[0])
            await maintenance.recovery.clear(release)

    async def _until_idle(self) -> None:
        """Wait for what is under way, though not for ever: one that takes long must not hold up the rest."""
        with anyio.move_on_after(self._settings.lease):
            while self._in_flight.under_way:
                await self._in_flight.change()

    def health(self) -> Mapping[str, Any]:
        """Connected or not; length, lag, pending, delayed, dead letters; what was recovered, lost, poison."""
        return {
            "ready": self.connected,
            "last_error": self._connection.last_error,
            "stream": self.keys.stream,
            "group": self.keys.group,
            "consumer": self._consumer,
            "under_way": len(self._in_flight.under_way),
            "waiting_alone": len(self._in_flight.quarantined),
            **({} if self._maintenance is None else self._maintenance.figures),
            **{name: self._in_flight.counts[name] for name in _COUNTS},
            "entries_lost": self._losses.total,
        }
