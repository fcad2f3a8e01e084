"""The sink of dead letters: it lands them in a `LetterStore`, one entry per delivery.

A write that sets a message aside also acknowledges it. Both land in one script where the letters are in
the Redis of the entry's stream. Where they are anywhere else, the letter is stored first and the entry
acknowledged after it, so that a crash between the two leaves an entry that comes again and finds its
letter stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from enricher.dead_letters.alert import DepthAlarm
from enricher.dead_letters.store import AcknowledgingStore, Added, LetterStore
from enricher.engine.effects import DEAD_LETTERS, Ack, DeadLetter
from enricher.engine.ports import Answer, Write
from enricher.errors import SinkUnavailable
from enricher.log import log
from enricher.metrics import Metric

if TYPE_CHECKING:
    from redis.asyncio import Redis


NO_OTHERS: Mapping[str, DeadLetterSink] = MappingProxyType({})


class DeadLetterSink:
    """Lands `DeadLetter` and the `Ack` beside it; a letter's task id makes repeating harmless.

    What falls off the old end of a bounded store is counted in ``evicted``, logged, and reported to
    ``on_evicted``; ``watch`` hears of every length. There is no place for a dead letter that cannot be
    stored, so every failure is an outage: it is logged and repeated. ``streams`` is the Redis of the entries
    to acknowledge, where that is not the store's own. ``others`` are sinks of their own for the dead letters
    of some topics, by topic; what is asked or told is then of all.
    """

    name = DEAD_LETTERS
    durable = False

    def __init__(
        self,
        store: LetterStore,
        *,
        on_evicted: Callable[[int], None] | None = None,
        watch: DepthAlarm | None = None,
        server: str = "",
        streams: Redis | None = None,
        others: Mapping[str, DeadLetterSink] = NO_OTHERS,
    ) -> None:
        self.server = server or store.name
        self.store = store
        self._evicted = 0
        self._others = others
        self._on_evicted = on_evicted
        self._watch = watch
        self._streams = streams

    @property
    def stores(self) -> tuple[LetterStore, ...]:
        """Every store, that for the other topics first."""
        return (self.store, *(sink.store for sink in self._others.values()))

    @property
    def evicted(self) -> int:
        """How many letters have fallen off the old ends since the start."""
        return self._evicted + sum(sink.evicted for sink in self._others.values())

    async def count(self) -> int:
        """How many dead letters there are. Errors of the stores are passed on."""
        return sum([await store.count() for store in self.stores])

    async def metrics(self) -> Sequence[Metric]:
        """How many dead letters each store has. Errors of the stores are passed on."""
        samples = [({"store": store.name}, float(await store.count())) for store in self.stores]
        text = "Dead letters that are kept in a store."
        return [Metric(name="enricher_dead_letters_stored", help=text, kind="gauge", samples=samples)]

    async def open(self) -> None:
        """Sound the alarm at once if there are too many already. Raises `SinkUnavailable`."""
        for sink in self._others.values():
            await sink.open()
        if self._watch is None or not self._watch.threshold:
            return
        try:
            length = await self.store.count()
        except Exception as error:
            raise self._unavailable(error) from error
        self._watch.saw(self.store.name, 0, length)

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        for write in writes:
            acks = [part for e in write.effects if isinstance(e, Ack) for part in (e.stream, e.group, e.id)]
            for effect in write.effects:
                if isinstance(effect, DeadLetter):
                    await self._others.get(effect.topic, self)._land(effect, acks)
        return {}

    async def _land(self, letter: DeadLetter, acks: Sequence[str]) -> None:
        try:
            added = await self._add(letter, acks)
        except Exception as error:
            raise self._unavailable(error) from error
        self._tell(letter, added)

    async def _add(self, letter: DeadLetter, acks: Sequence[str]) -> Added:
        if self._streams is None and isinstance(self.store, AcknowledgingStore):
            return await self.store.add(letter, acks)
        added = await self.store.add(letter)
        if acks:
            # Only who has entries to acknowledge needs the way to Redis.
            from enricher.adapters.redis.dead_letters.base import acknowledge_only

            if self._streams is None:
                raise RuntimeError(f"{self.store.name} cannot acknowledge: give the sink streams=CLIENT")
            await acknowledge_only(self._streams, acks)
        return added

    def _tell(self, letter: DeadLetter, added: Added) -> None:
        if added.evicted:
            self._evicted += added.evicted
            if self._on_evicted is not None:
                self._on_evicted(added.evicted)
            log.warning("dead_letters_evicted", store=self.store.name, evicted=added.evicted)
        if self._watch is not None:
            before = added.length + added.evicted - added.new
            self._watch.saw(self.store.name, before, added.length)
        log.warning(
            "dead_letter",
            task_id=letter.task_id,
            task_name=letter.task_name,
            topic=letter.topic,
            stage=letter.stage,
            path=letter.path,
            error=letter.error[:500],
        )

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        return SinkUnavailable(self.name, f"{self.store.name}: {type(error).__name__}: {error}")

    async def close(self) -> None:
        """Nothing: what the store needs belongs to who made it."""
