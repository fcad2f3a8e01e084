"""How streams stand: the groups that workers with these settings read, and who holds the shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from enricher.adapters.redis.client import unavailable
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup, WrongKey, check_key
from enricher.adapters.redis.stream.shards import Shard
from enricher.config import Settings
from enricher.engine.effects import LIVE
from enricher.engine.router import Overload, Route
from enricher.intake import intake_group, intake_stream, spill_stream, topics_by_stream
from enricher.system import Plan, StreamUse
from enricher.texts import as_text


class Consumer(msgspec.Struct, frozen=True):
    """Who reads for a group: entries in its hands, and ms since it was heard of."""

    name: str
    pending: int
    silent_ms: int


class StreamState(msgspec.Struct, frozen=True):
    """A group on a stream: figures by name (none when nobody has made it yet), and groups nobody here reads.

    ``letters`` is the stream of its own dead letters; "" where they go with all others. ``problem`` is a key
    that holds something else, which stops the worker. ``first_ms`` is when the first entry that is still
    there was appended. ``holder`` is who has the shard of the group, for ``held_ms`` more unless it renews.
    """

    keys: GroupKeys
    figures: dict[str, Any]
    letters: str = ""
    others: tuple[str, ...] = ()
    problem: str = ""
    consumers: tuple[Consumer, ...] = ()
    first_ms: int | None = None
    holder: str = ""
    held_ms: int = 0


def groups_of(settings: Settings, routes: Sequence[Route], plans: Sequence[Plan]) -> list[StreamUse]:
    """The groups that workers with these settings read, with the stream of their dead letters."""
    found: list[StreamUse] = []
    topics = topics_by_stream(settings, routes)
    by_stream = [route for route in routes if route.topic in topics]
    if by_stream:
        stream, shard = intake_stream(settings), settings.streams.shard
        siblings = Shard.parse(shard).siblings if shard else []
        if not shard or any(route.state_store is None for route in by_stream):
            found.append(StreamUse(stream, intake_group(settings)))
        found += [StreamUse(stream, intake_group(settings, each)) for each in siblings]
    if any(route.overload is Overload.SPILL for route in routes):
        found.append(StreamUse(spill_stream(settings), settings.service.name))
    return [*found, *(use for plan in plans for use in plan.streams)]


def topics_of(settings: Settings, routes: Sequence[Route], stream: str) -> list[str]:
    """The topics whose messages take the way over a stream."""
    if stream == intake_stream(settings):
        return sorted(topics_by_stream(settings, routes))
    if stream == spill_stream(settings):
        return sorted(route.topic for route in routes if route.overload is Overload.SPILL)
    return [route.topic for route in routes if route.topic == stream]


async def ask_streams(
    client: Redis, settings: Settings, groups: Sequence[StreamUse]
) -> list[StreamState]:
    """What Redis says about the groups; nothing is written. Errors of the client are passed on."""
    # Where dead letters are in another Redis, their number is that server's to tell.
    here = settings.dead_letters.url in ("", settings.redis.url)
    known = {(use.stream, use.group) for use in groups}
    found: list[StreamState] = []
    for stream, group_name, own_letters in groups:
        keys = GroupKeys(stream, group_name)
        both = [StreamGroup(client, each, "check") for each in (keys, GroupKeys(keys.again, keys.group))]
        letters = own_letters if here else ""
        try:
            for each in both:
                await each.check_keys()
            if letters:
                await check_key(client, letters, "stream")
        except WrongKey as error:
            found.append(StreamState(keys, {}, own_letters, problem=str(error)))
            continue
        state = StreamState(keys, {}, own_letters)
        try:
            state = await _asked(both[0], both[1], own_letters, known)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
        if letters:
            state.figures["dead_letters"] = await client.xlen(letters)
        found.append(state)
    return found


async def _asked(
    main: StreamGroup, retries: StreamGroup, letters: str, known: set[tuple[str, str]]
) -> StreamState:
    client, keys = main.client, main.keys
    figures = await main.figures()
    figures["entries_lost"] = await main.entries_lost() + await retries.entries_lost()
    groups = [as_text(group["name"]) for group in await client.xinfo_groups(keys.stream)]
    others = tuple(name for name in groups if (keys.stream, name) not in known)
    consumers: tuple[Consumer, ...] = ()
    if keys.group in groups:
        asked = await client.xinfo_consumers(keys.stream, keys.group)
        consumers = tuple(Consumer(as_text(c["name"]), int(c["pending"]), int(c["idle"])) for c in asked)
    first = await client.xrange(keys.stream, count=1)
    # Where the group is that of a shard, see `shard_lock`.
    lease = f"{keys.stream}:{keys.group}:holder"
    holder = as_text(await client.get(lease) or b"").rpartition(" ")[0]
    return StreamState(
        keys,
        figures,
        letters,
        others,
        consumers=consumers,
        first_ms=int(as_text(first[0][0]).partition("-")[0]) if first else None,
        holder=holder,
        held_ms=max(int(await client.pttl(lease)), 0) if holder else 0,
    )


class StreamReading:
    """The streams of ``routes`` and ``plans``, for whoever looks at them."""

    def __init__(
        self, client: Redis, settings: Settings, routes: Sequence[Route], plans: Sequence[Plan]
    ) -> None:
        self._client = client
        self._settings = settings
        self._routes = routes
        self._groups = groups_of(settings, routes, plans)

    async def __call__(self) -> list[StreamState]:
        """How they stand now. Raises `SinkUnavailable`."""
        try:
            return await ask_streams(self._client, self._settings, self._groups)
        except (RedisError, OSError) as error:
            away = unavailable(LIVE, error)
            if away is None:
                raise
            raise away from error

    def topics(self, stream: str) -> list[str]:
        """The topics whose messages take the way over a stream."""
        return topics_of(self._settings, self._routes, stream)
