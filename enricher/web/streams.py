"""The streams that messages come over: groups and who reads for them, what waits, shards and who has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from enricher.config import StreamSettings
from enricher.web.views import Asked, View

if TYPE_CHECKING:
    from enricher.stream_groups import StreamState


class ConsumerRow(msgspec.Struct, frozen=True):
    """Who reads for a group: entries in its hands, and for how many seconds it has been silent."""

    name: str
    pending: int
    silent: float


class GroupRow(msgspec.Struct, frozen=True):
    """A group: what it has not read (None: unknown), what is in hand, what waits for another try.

    ``oldest`` is when the first entry that it has not finished was appended (s since 1970), ``lost`` counts
    entries that went before they were read, ``problem`` says why it cannot be read. A ``shard`` ("i/n") is
    ``held`` by a worker (""  nobody) for ``lease`` more seconds, unless that renews it.
    """

    name: str
    lag: int | None
    pending: int | None
    delayed: int | None
    oldest: float | None
    lost: int
    dead_letters: int | None
    letters: str
    consumers: list[ConsumerRow]
    problem: str
    shard: str
    held: str
    lease: float


class StreamRow(msgspec.Struct, frozen=True):
    """A stream with its groups, and the topics that take the way over it.

    ``since`` is when its first entry was appended (s since 1970). ``others`` are groups that nobody with
    these settings reads for: the stream keeps what they have not acknowledged.
    """

    name: str
    topics: list[str]
    length: int
    since: float | None
    groups: list[GroupRow]
    others: list[str]


class StreamList(msgspec.Struct, frozen=True):
    """All streams of this worker's settings, and how they are trimmed.

    Acknowledged entries go ``retention`` seconds later; with a ``max_length`` streams are cut to that
    instead, read or not. ``shard`` is that of this worker.
    """

    streams: list[StreamRow]
    retention: float
    max_length: int
    shard: str


class Reading(Protocol):
    """Asks how the streams stand. Raises `SinkUnavailable`."""

    async def __call__(self) -> Sequence[StreamState]: ...

    def topics(self, stream: str) -> list[str]: ...


class Streams:
    """The view of ``reading``."""

    def __init__(self, reading: Reading, settings: StreamSettings) -> None:
        self._reading = reading
        self._settings = settings

    def views(self) -> list[View]:
        summary = "Streams: groups, who reads for them, what waits; shards and who has them."
        return [
            View("streams", self.listed, summary, menu="Streams", template="enricher.web:streams.html"),
        ]

    async def listed(self, _: Asked[Any]) -> StreamList:
        by_stream: dict[str, list[StreamState]] = {}
        for state in await self._reading():
            by_stream.setdefault(state.keys.stream, []).append(state)
        streams = [self._stream(name, states) for name, states in by_stream.items()]
        settings = self._settings
        return StreamList(streams, settings.retention, settings.max_length, settings.shard)

    def _stream(self, name: str, states: Sequence[StreamState]) -> StreamRow:
        return StreamRow(
            name=name,
            topics=self._reading.topics(name),
            length=max(state.figures.get("length", 0) for state in states),
            since=next((s.first_ms / 1000 for s in states if s.first_ms is not None), None),
            groups=[_group(state) for state in states],
            others=sorted({other for state in states for other in state.others}),
        )


def _group(state: StreamState) -> GroupRow:
    figures, (_, _, shard) = state.figures, state.keys.group.rpartition(":")
    oldest = figures.get("oldest_ms")
    return GroupRow(
        name=state.keys.group,
        lag=figures.get("lag"),
        pending=figures.get("pending"),
        delayed=figures.get("delayed"),
        oldest=None if oldest is None else oldest / 1000,
        lost=figures.get("entries_lost", 0),
        dead_letters=figures.get("dead_letters"),
        letters=state.letters,
        consumers=[ConsumerRow(c.name, c.pending, c.silent_ms / 1000) for c in state.consumers],
        problem=state.problem,
        shard=shard if "/" in shard else "",
        held=state.holder,
        lease=state.held_ms / 1000,
    )
