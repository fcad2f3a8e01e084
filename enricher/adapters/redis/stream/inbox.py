"""Entries that were read and are not with the pool yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from enricher.adapters.redis.stream.entry import EntryReader, Fields, GroupKeys, StreamDelivery
from enricher.adapters.redis.stream.in_flight import InFlight
from enricher.adapters.redis.stream.ledger import Losses
from enricher.adapters.redis.stream.quarantine import Quarantined
from enricher.engine.ports import Intake
from enricher.errors import EnricherError


class Poison(EnricherError):
    """An entry that was delivered again and again and never finished."""


class Inbox:
    """Makes deliveries of the entries of group ``keys`` (and its retries) and hands them over, in order.

    ``keeps`` is asked with topic and body, if given. What cannot be understood, and what was delivered
    ``max_deliveries`` times, is set aside, under ``task_name`` if its topic has no route. ``on_handed`` may
    be set: it is called with what was handed over.
    """

    def __init__(
        self,
        entries: EntryReader,
        keys: GroupKeys,
        in_flight: InFlight,
        losses: Losses,
        *,
        max_deliveries: int,
        task_name: str,
        keeps: Callable[[str, bytes], bool] | None,
    ) -> None:
        self.on_handed: Callable[[StreamDelivery], None] | None = None
        self._entries = entries
        self._keys = keys
        self._in_flight = in_flight
        self._losses = losses
        self._max_deliveries = max_deliveries
        self._task_name = task_name
        self._keeps = keeps
        self._ready: deque[tuple[StreamDelivery, Exception | None]] = deque()

    def add(self, keys: GroupKeys, id_: str, fields: Fields) -> bool:
        """Take an entry that was read; False if it is for others."""
        delivery, problem = self._delivery(keys, id_, fields)
        if not self._is_kept(delivery):
            return False
        self._in_flight.under_way[keys.stream, id_] = delivery
        self._ready.append((delivery, problem))
        return True

    def add_left(self, entry: Quarantined, fields: Fields, *, counted: bool) -> None:
        """Take an entry out of quarantine; ``counted``: the server counts this as a delivery."""
        delivery, problem = self._delivery(entry.keys, entry.id, fields)
        self._in_flight.under_way[entry.keys.stream, entry.id] = delivery
        delivery.left = entry.delivery - 1
        delivery.unfinished += delivery.left
        delivery.counted = counted
        if self._is_kept(delivery):
            self._ready.append((delivery, problem))
        else:
            self._in_flight.settled(delivery, "conflated")

    def _delivery(
        self, keys: GroupKeys, id_: str, fields: Fields
    ) -> tuple[StreamDelivery, Exception | None]:
        return self._entries.delivery(keys, id_, fields, self._losses.life(self._keys))

    def _is_kept(self, delivery: StreamDelivery) -> bool:
        return self._keeps is None or self._keeps(delivery.topic, delivery.body)

    async def hand_over(self, intake: Intake) -> None:
        """Hand over all; a connection that ends meanwhile leaves the rest for the next one."""
        while self._ready:
            delivery, problem = self._ready[0]
            if problem is not None:
                self._set_aside(delivery, "decode", problem, intake)
            elif (times := delivery.left) >= self._max_deliveries:
                why = f"delivered {times} times and never finished: it may end whoever handles it"
                self._set_aside(delivery, "poison", Poison(why), intake)
            elif intake.full_for(delivery):
                await intake.put(delivery)
            else:
                intake.offer(delivery)
            self._ready.popleft()
            if self.on_handed is not None:
                self.on_handed(delivery)

    def _set_aside(self, delivery: StreamDelivery, stage: str, error: Exception, intake: Intake) -> None:
        self._in_flight.counts["poison" if stage == "poison" else "undecodable"] += 1
        delivery.attempts += delivery.unfinished
        intake.set_aside(delivery, stage, error, self._task_name)
