"""Entries that were delivered and never finished: found, put in quarantine, and taken out again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from enricher.adapters.redis.stream.entry import Fields
from enricher.adapters.redis.stream.group import PAGE, Groups, Left, StreamGroup
from enricher.adapters.redis.stream.in_flight import InFlight
from enricher.adapters.redis.stream.ledger import Losses
from enricher.adapters.redis.stream.quarantine import Quarantined, Release


class Recovery:
    """Recovers entries of ``groups``: a consumer's own at its start, those of dead workers while it lives.

    Errors of the client are passed on.
    """

    def __init__(self, groups: Groups, in_flight: InFlight, losses: Losses) -> None:
        self._groups = groups
        self._in_flight = in_flight
        self._losses = losses

    async def take_up_own(self, *, first: bool) -> None:
        """What this consumer was given and never acknowledged: before its ``first`` connection, or since."""
        known = {(entry.keys, entry.id): entry for entry in self._in_flight.quarantined}
        self._in_flight.quarantined.clear()
        for group in self._groups:
            # Within one life it was never handed over, so this is no further delivery.
            for entry in await self._quarantined(group, await group.own(), deliveries=int(first)):
                self._in_flight.quarantined.append(known.get((entry.keys, entry.id), entry))

    async def take_over_all(self) -> None:
        """Make everything that others hold this consumer's own."""
        for group in self._groups:
            begin = "0-0"
            while True:
                begin, _, lost = await group.sweep(0, begin)
                self._losses.note(group.keys, lost)
                if begin == "0-0":
                    break

    async def sweep(self, lease_ms: int, most: int) -> None:
        """Take over what nobody renewed for a lease, ``most`` at a time; what is lost is found on the way."""
        for group in self._groups:
            begin = "0-0"
            while len(self._in_flight.quarantined) < most:
                begin, left, lost = await group.sweep(lease_ms, begin)
                self._losses.note(group.keys, lost)
                self._in_flight.quarantined += await self._quarantined(group, left, deliveries=1)
                if begin == "0-0":
                    break

    async def _quarantined(
        self, group: StreamGroup, left: Sequence[Left], *, deliveries: int
    ) -> list[Quarantined]:
        """Those of ``left`` that are not in hand; the next delivery is so many further."""
        if not left:
            return []
        exposed, in_hand = await group.exposed(), self._in_flight.entries(group.keys)
        return [
            Quarantined(group.keys, e.id, max(e.deliveries + deliveries, 1), exposed.get(e.id, 0))
            for e in left
            if e.id not in in_hand
        ]

    async def take(self, release: Release) -> AsyncIterator[tuple[Quarantined, Fields]]:
        """Take entries out of quarantine, each with its fields; whoever gets one has it under way at once."""
        for group in self._groups:
            entries = [entry for entry in release.entries if entry.keys == group.keys]
            for at in range(0, len(entries), PAGE):
                page = entries[at : at + PAGE]
                numbers = [(entry.id, entry.delivery - bool(release.exposes)) for entry in page]
                async with self._groups.turn():
                    replies = await group.take(numbers, exposes=release.exposes)
                for entry, fields in zip(page, replies, strict=True):
                    # Until now its lease was renewed with those that wait.
                    self._in_flight.quarantined.remove(entry)
                    if isinstance(fields, bool):
                        self._losses.note(entry.keys, [entry.id])
                    elif fields is not None:
                        self._in_flight.counts["recovered"] += 1
                        yield entry, fields

    async def clear(self, release: Release) -> None:
        """Forget that those were in a cohort who came out of it."""
        for group in self._groups:
            ids = [entry.id for entry in release.entries if entry.keys == group.keys]
            if ids:
                async with self._groups.turn():
                    under_way = self._in_flight.with_pool(group.keys)
                    await group.cleared([id_ for id_ in ids if id_ not in under_way])
