"""What a stream's source does beside reading: leases, retries that are due, what dead workers left."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import anyio
import msgspec
import redis.exceptions as errors

from enricher.adapters.redis.stream.entry import GroupKeys, StreamDelivery
from enricher.adapters.redis.stream.group import StreamGroup, parts
from enricher.adapters.redis.stream.ledger import Look
from enricher.adapters.redis.stream.quarantine import Suspect
from enricher.engine.ports import Sink
from enricher.log import log

_TRIM_EVERY = 10.0
# How servers say that a script's user lacks a right.
_DENIED = ("NOPERM", "ACL failure in script", "The user executing the script")
# A consumer without entries that was silent for so many leases has left.
_GONE = 10


class LetterSink(Sink, Protocol):
    """A store of dead letters that lands acknowledgements with them, and can be counted."""

    async def count(self) -> int:
        """How many dead letters there are."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How a source treats its stream; times are seconds.

    ``batch`` entries per read, which waits ``block`` for them; ``prefetch`` entries under way; ``lease``
    after which others may take over; ``max_deliveries`` before an entry is poison; ``start`` of a new group
    ("0": everything, "$": what comes from now on, or an id); ``tick`` between looks at the delay set;
    ``timeout`` of a command. Trimming: with ``max_length`` to about so many entries, read or not; else, with
    ``trim``, of what all groups have acknowledged at least ``keep`` before.
    """

    batch: int = 500
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

    @property
    def lease_ms(self) -> int:
        """The lease as Redis takes it."""
        return max(int(self.lease * 1000), 1)


class Looked(msgspec.Struct, frozen=True):
    """How a stream stood at ``at`` (seconds of the loop).

    ``needed`` is the first entry that a group needed, ``silent`` for how many seconds the most silent
    consumer had not been heard of.
    """

    at: float
    needed: str
    silent: float


class Holdings:
    """What one consumer has in hand: data that its reader and its house share.

    ``under_way`` by stream and id; ``suspects`` wait to be taken; ``given_up`` were dropped by the pool and
    come again; ``waived`` were conflated and need no commit. ``moved`` is set whenever something leaves.
    ``looked`` is how the streams stood since what is trimmed next was needed, ``ledgers`` what was found in
    them by the last look, ``gone`` what was lost since and is in none yet.
    """

    def __init__(self) -> None:
        self.under_way: dict[tuple[str, str], StreamDelivery] = {}
        self.suspects: deque[Suspect] = deque()
        self.given_up: list[StreamDelivery] = []
        self.waived: list[StreamDelivery] = []
        self.counts: Counter[str] = Counter()
        self.looked: dict[str, deque[Looked]] = {}
        self.ledgers: dict[GroupKeys, Look] = {}
        self.gone: Counter[GroupKeys] = Counter()
        self.moved = asyncio.Event()

    def settled(self, delivery: StreamDelivery, label: str) -> None:
        """A delivery has left. One that was not finished stays in hand until `House.leave`."""
        if label in ("handed_back", "lost"):
            return
        self.under_way.pop((delivery.place.stream, delivery.entry), None)
        if label == "dropped":
            self.given_up.append(delivery)
        elif label == "conflated":
            self.waived.append(delivery)
        self.moved.set()

    def in_hand(self, group: StreamGroup) -> set[str]:
        """Entries that are not to be taken anew: under way, or about to be handed back or acknowledged."""
        waiting = (*self.under_way.values(), *self.given_up, *self.waived)
        return {delivery.entry for delivery in waiting if delivery.place == group.keys}

    async def something_moves(self) -> None:
        """Return when something has left."""
        self.moved.clear()
        await self.moved.wait()

    def note_lost(self, group: StreamGroup, ids: Sequence[str], *, counted: bool = True) -> None:
        """Entries that the stream has lost, unless they are in hand; ``counted`` in the ledger already."""
        gone = [id_ for id_ in ids if (group.keys.stream, id_) not in self.under_way]
        if gone:
            self.counts["lost"] += len(gone)
            if not counted:
                self.gone[group.keys] += len(gone)
            log.error(
                "entries_lost",
                stream=group.keys.stream,
                group=group.keys.group,
                entries=len(gone),
                ids=gone[:100],
                reason="deleted while they were pending",
            )

    async def look(self, group: StreamGroup) -> None:
        """Find out what the group has lost that nobody had read, and which life of the stream this is."""
        known, gone = self.ledgers.get(group.keys), self.gone[group.keys]
        held = {} if known is None else known.held
        try:
            found = await group.look(held, in_hand=len(self.in_hand(group)), more=gone)
        except errors.ResponseError as error:
            # It tells what is wrong with the stream, and without it the stream can be read all the same.
            if not any(sign in str(error) for sign in _DENIED):
                raise
            if not self.counts["unseen"]:
                log.warning("losses_unseen", stream=group.keys.stream, reason=str(error))
            self.counts["unseen"] = 1
            return
        if found is None:
            return
        self.gone[group.keys] -= gone
        self.ledgers[group.keys] = found
        if found.lost:
            log.error(
                "entries_lost",
                stream=group.keys.stream,
                group=group.keys.group,
                entries=found.lost,
                from_id=found.first,
                to_id=found.last,
                reason="trimmed or deleted before they were read",
            )

    @property
    def entries_lost(self) -> int:
        """How many entries the groups have ever lost, whoever was reading."""
        return sum(found.total for found in self.ledgers.values()) + self.gone.total()


class House:
    """Keeps house for one consumer over one connection; ``groups`` are the stream's and that of its retries.

    ``lock`` lets one at a time use the connection. Errors of the client are passed on.
    """

    def __init__(
        self,
        groups: tuple[StreamGroup, StreamGroup],
        held: Holdings,
        limits: StreamLimits,
        letters: LetterSink,
    ) -> None:
        self.lock = asyncio.Lock()
        self.figures: dict[str, Any] = {}
        self._groups = groups
        self._held = held
        self._limits = limits
        self._letters = letters

    async def run(self) -> None:
        """Do it all, each in its time, until cancelled."""
        limits = self._limits
        every: dict[Callable[[], Awaitable[None]], float] = {
            self._renew: limits.lease / 3,
            self._sweep: limits.lease / 2,
            self._figure: min(1.0, limits.lease),
            self._trim: min(_TRIM_EVERY, limits.lease),
        }
        due = dict.fromkeys(every, 0.0)
        while True:
            async with self.lock:
                with anyio.fail_after(limits.timeout):
                    await self._hand_back()
                    await self._groups[0].come_back(self._groups[1].keys.stream)
                    now = anyio.current_time()
                    for task in [task for task, at in due.items() if at <= now]:
                        due[task] = now + every[task]
                        await task()
            await anyio.sleep(limits.tick)

    async def _hand_back(self) -> None:
        """What the pool dropped comes again later; what it conflated is done with."""
        for group in self._groups:
            given_up = [d for d in self._held.given_up if d.place == group.keys]
            waived = [d for d in self._held.waived if d.place == group.keys]
            await self._release(group, [d.entry for d in given_up], {d.entry for d in given_up if d.counted})
            await group.acknowledge([d.entry for d in waived])
            # Only what was dealt with: more may have come while we waited.
            self._held.given_up = [d for d in self._held.given_up if d not in given_up]
            self._held.waived = [d for d in self._held.waived if d not in waived]

    async def _renew(self) -> None:
        for group in self._groups:
            ids = [id_ for stream, id_ in self._held.under_way if stream == group.keys.stream]
            ids += [suspect.id for suspect in self._held.suspects if suspect.group.keys == group.keys]
            for id_ in await group.renew(ids):
                delivery = self._held.under_way.get((group.keys.stream, id_))
                if delivery is not None:
                    # The first time it may be that its commit has landed and we do not know yet.
                    delivery.missed += 1
                    self._held.counts["lapsed"] += delivery.missed == 2

    async def _sweep(self) -> None:
        """Take over what dead workers left; what is lost is found on the way."""
        for group in self._groups:
            begin = "0-0"
            while len(self._held.suspects) < self._limits.prefetch:
                begin, left, gone = await group.sweep(self._limits.lease_ms, begin)
                self._held.note_lost(group, gone)
                exposed = await group.exposed() if left else {}
                in_hand = self._held.in_hand(group) if left else set()
                self._held.suspects += [
                    Suspect(group, entry.id, entry.deliveries + 1, exposed.get(entry.id, 0))
                    for entry in left
                    if entry.id not in in_hand
                ]
                if begin == "0-0":
                    break
            await group.tidy(self._limits.lease_ms * _GONE)

    async def _trim(self) -> None:
        if self._limits.max_length:
            await self._groups[0].trim_to(self._limits.max_length)
        elif self._limits.trim:
            await self._trim_finished(self._groups[0])
        await self._trim_finished(self._groups[1])

    async def _trim_finished(self, group: StreamGroup) -> None:
        """Trim what was acknowledged long enough ago.

        A commit whose reply was lost is repeated, and finds by its entry that it has landed. So entries stay
        while one of ours is under way before them, and while a consumer is silent that may have such.
        """
        stream, now = group.keys.stream, anyio.current_time()
        looked = self._held.looked.setdefault(stream, deque())
        since = now - self._limits.keep
        if looked:
            # Nobody has been silent for longer than then, and the time from then on.
            since = min(since, looked[-1].at - looked[-1].silent)
        while len(looked) > 1 and looked[1].at <= since:
            looked.popleft()
        keep_from = looked[0].needed if looked and looked[0].at <= since else "0-0"
        ours = [id_ for place, id_ in self._held.under_way if place == stream]
        keep_from = min([keep_from, *ours], key=parts)
        needed, silent = await group.trim(keep_from, self._limits.lease_ms * _GONE)
        looked.append(Looked(now, needed, silent))

    async def measure(self) -> None:
        """Bring the figures of the streams up to date."""
        again = await self._groups[1].figures()
        figures = await self._groups[0].figures()
        figures["retrying"] = int(again.get("pending", 0)) + int(again.get("lag") or 0)
        self.figures = {**self.figures, **figures}

    async def _figure(self) -> None:
        # The store may be in another Redis, whose troubles are none of ours.
        with suppress(errors.RedisError, OSError), anyio.fail_after(1):
            self.figures["dead_letters"] = await self._letters.count()
        await self.measure()
        for group in self._groups:
            await self._held.look(group)

    async def leave(self) -> None:
        """Give up what is not finished, so that others have it at once, and leave the group."""
        held = self._held
        for group in self._groups:
            await group.acknowledge([d.entry for d in held.waived if d.place == group.keys])
            # Those that wait to be taken were not delivered this time, nor in a company; all others were.
            uncounted = {suspect.id for suspect in held.suspects if suspect.group.keys == group.keys}
            in_hand = (*held.under_way.values(), *held.given_up)
            uncounted |= {d.entry for d in in_hand if d.place == group.keys and not d.counted}
            own = [left.id for left in await group.own()]
            await self._release(group, own, set(own) - uncounted)
            await group.leave()

    async def _release(self, group: StreamGroup, ids: Sequence[str], counted: set[str]) -> None:
        """Let the next sweep have them; what was counted this time was no delivery."""
        for uncount in (True, False):
            wanted = [id_ for id_ in ids if (id_ in counted) is uncount]
            await group.release(wanted, self._limits.lease_ms, uncount=uncount)
