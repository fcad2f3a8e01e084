"""What a stream's source does beside reading: it renews leases, brings back what is due, trims, measures."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import msgspec
import redis.exceptions as errors

from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import Groups, StreamGroup, parts
from enricher.adapters.redis.stream.in_flight import InFlight
from enricher.adapters.redis.stream.ledger import Losses
from enricher.adapters.redis.stream.takeover import Recovery
from enricher.config import StreamSettings
from enricher.dead_letters.sink import DeadLetterSink

_TRIM_EVERY = 10.0
# A consumer without entries that was silent for so many leases has left.
_GONE = 10


class Looked(msgspec.Struct, frozen=True):
    """How a stream stood at ``at`` (seconds of the loop).

    ``needed`` is the first entry that a group needed, ``silent`` for how many seconds the most silent
    consumer had not been heard of.
    """

    at: float
    needed: str
    silent: float


class Trimming:
    """Trims a stream as ``settings`` say, not at all without ``trim``, and always that of its retries.

    A commit whose reply was lost is repeated, and finds by its entry that it was done. So entries stay for
    a while after their acknowledgement (`StreamSettings.retention`), while one of ours is under way before
    them, and while a consumer is silent that may have such.
    """

    def __init__(self, in_flight: InFlight, settings: StreamSettings, *, trim: bool) -> None:
        self._in_flight = in_flight
        self._settings = settings
        self._trims_main = trim
        # How the streams stood since what is trimmed next was needed.
        self._looked: dict[str, deque[Looked]] = {}

    async def trim(self, groups: Groups) -> None:
        """Trim both streams."""
        if self._settings.max_length:
            await groups.main.trim_to(self._settings.max_length)
        elif self._trims_main:
            await self._trim_finished(groups.main)
        await self._trim_finished(groups.retries)

    async def _trim_finished(self, group: StreamGroup) -> None:
        """Trim what was acknowledged long enough ago."""
        now = anyio.current_time()
        looked = self._looked.setdefault(group.keys.stream, deque())
        since = now - self._settings.retention
        if looked:
            # Nobody has been silent for longer than then, and the time from then on.
            since = min(since, looked[-1].at - looked[-1].silent)
        while len(looked) > 1 and looked[1].at <= since:
            looked.popleft()
        keep_from = looked[0].needed if looked and looked[0].at <= since else "0-0"
        keep_from = min([keep_from, *self._in_flight.with_pool(group.keys)], key=parts)
        needed, silent = await group.trim(keep_from, lease_ms(self._settings) * _GONE)
        looked.append(Looked(now, needed, silent))


class LeaseMaintenance:
    """Looks after one consumer's ``groups`` over one connection, as ``settings`` say.

    ``tick``: seconds between two looks at the delay set. Errors of the client are passed on.
    """

    def __init__(
        self,
        groups: Groups,
        in_flight: InFlight,
        losses: Losses,
        trimming: Trimming,
        settings: StreamSettings,
        dead_letters: DeadLetterSink | None,
        tick: float,
    ) -> None:
        self.figures: dict[str, Any] = {}
        self.recovery = Recovery(groups, in_flight, losses)
        self._groups = groups
        self._in_flight = in_flight
        self._losses = losses
        self._trimming = trimming
        self._settings = settings
        self._lease_ms = lease_ms(settings)
        self._dead_letters = dead_letters
        self._tick = tick

    async def open(self, start: str, siblings: Sequence[str]) -> None:
        """Make sure that both groups exist, and on the stream the groups ``siblings`` too.

        A new group begins at ``start``. Raises `WrongKey` if a key of ours holds something else.
        """
        for group in self._groups:
            await group.check_keys()
        for group, begin in zip(self._groups, (start, "0"), strict=True):
            # Before, since a stream made anew is begun at its beginning; after, since then there is a group.
            await self._losses.look(group.client, group.keys)
            self._in_flight.counts["created_again"] += await group.create(begin)
            await self._losses.look(group.client, group.keys)
        main = self._groups.main
        for name in siblings:
            await StreamGroup(main.client, GroupKeys(main.keys.stream, name), main.consumer).create(start)

    async def run(self) -> None:
        """Do it all, each in its time, until cancelled."""
        lease = self._settings.lease
        every: dict[Callable[[], Awaitable[None]], float] = {
            self._renew: lease / 3,
            self._sweep: lease / 2,
            self._figure: min(1.0, lease),
            partial(self._trimming.trim, self._groups): min(_TRIM_EVERY, lease),
        }
        due = dict.fromkeys(every, 0.0)
        while True:
            async with self._groups.turn():
                await self._hand_back()
                await self._groups.main.come_back(self._groups.retries.keys.stream)
                now = anyio.current_time()
                for task in [task for task, at in due.items() if at <= now]:
                    due[task] = now + every[task]
                    await task()
            await anyio.sleep(self._tick)

    async def _hand_back(self) -> None:
        """What the pool dropped comes again later; what it conflated is done with."""
        for group in self._groups:
            given_up = [d for d in self._in_flight.given_up if d.place == group.keys]
            waived = [d for d in self._in_flight.waived if d.place == group.keys]
            await self._release(group, [d.entry for d in given_up], {d.entry for d in given_up if d.counted})
            await group.acknowledge([d.entry for d in waived])
            # Only what was dealt with: more may have come while we waited.
            self._in_flight.given_up = [d for d in self._in_flight.given_up if d not in given_up]
            self._in_flight.waived = [d for d in self._in_flight.waived if d not in waived]

    async def _renew(self) -> None:
        for group in self._groups:
            for id_ in await group.renew(self._in_flight.held(group.keys)):
                delivery = self._in_flight.under_way.get((group.keys.stream, id_))
                if delivery is not None:
                    # The first time it may be that its commit was done and we do not know yet.
                    delivery.missed += 1
                    self._in_flight.counts["lapsed"] += delivery.missed == 2

    async def _sweep(self) -> None:
        await self.recovery.sweep(self._lease_ms, self._settings.prefetch)
        for group in self._groups:
            await group.tidy(self._lease_ms * _GONE)

    async def measure(self) -> None:
        """Bring the figures of the streams up to date."""
        retries = await self._groups.retries.figures()
        figures = await self._groups.main.figures()
        figures["retrying"] = int(retries.get("pending", 0)) + int(retries.get("lag") or 0)
        oldest = [each["oldest_ms"] for each in (figures, retries) if each.get("oldest_ms") is not None]
        self.figures = {**self.figures, **figures, "oldest_ms": min(oldest, default=None)}

    async def _figure(self) -> None:
        # The store may be in another Redis, whose troubles are none of ours.
        if self._dead_letters is not None:
            with suppress(errors.RedisError, OSError), anyio.fail_after(1):
                self.figures["dead_letters"] = await self._dead_letters.count()
        await self.measure()
        for group in self._groups:
            await self._losses.look(group.client, group.keys)

    async def leave(self) -> None:
        """Give up what is not finished, so that others have it at once, and leave the group.

        What still runs keeps its lease, renewed once more, until that runs out.
        """
        for group in self._groups:
            await group.acknowledge([d.entry for d in self._in_flight.waived if d.place == group.keys])
            # Those in quarantine were not delivered this time, nor those of a cohort; all others were.
            in_hand = (*self._in_flight.under_way.values(), *self._in_flight.given_up)
            uncounted = {d.entry for d in in_hand if d.place == group.keys and not d.counted}
            own = [left.id for left in await group.own()]
            running = self._in_flight.running(group.keys)
            await group.renew(running)
            own = [id_ for id_ in own if id_ not in running]
            await self._release(group, own, set(own) - uncounted - set(self._in_flight.waiting(group.keys)))
            await group.leave()

    async def _release(self, group: StreamGroup, ids: Sequence[str], counted: set[str]) -> None:
        """Let the next sweep have them; what was counted this time was no delivery."""
        for uncount in (True, False):
            wanted = [id_ for id_ in ids if (id_ in counted) is uncount]
            await group.release(wanted, self._lease_ms, uncount=uncount)


def lease_ms(settings: StreamSettings) -> int:
    """The lease as Redis takes it."""
    return max(int(settings.lease * 1000), 1)
