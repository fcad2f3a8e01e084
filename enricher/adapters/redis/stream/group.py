"""A consumer group on a stream, as the few questions and orders that a source has for it.

Every order that depends on who holds an entry is a script, so that nobody takes away what somebody else has
taken over meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.scripts import Script, load
from enricher.adapters.redis.stream.entry import Fields, GroupKeys
from enricher.log import log
from enricher.texts import as_text

PAGE = 100
_EXPOSED_TTL = 86400
_CURSOR = re.compile(rb"\(?[0-9]{1,20}(-[0-9]{1,20})?")

_SWEEP, _TAKE, _TIDY = load("stream_sweep"), load("stream_take"), load("stream_tidy")
_RENEW, _RELEASE = load("stream_renew", "stream_claimed"), load("stream_release", "stream_claimed")
_TRIM, _DUE = load("stream_trim"), load("stream_due")
ACKNOWLEDGE = load("stream_ack", "ack")


class WrongKey(errors.ResponseError):
    """A key of a group holds something that is none of its own."""


class Left(msgspec.Struct, frozen=True):
    """An entry that waits for an acknowledgement: its id, and its deliveries so far."""

    id: str
    deliveries: int


class StreamGroup:
    """Group ``keys.group`` on ``keys.stream`` as consumer ``consumer`` sees it, through ``client``.

    ``client`` gives raw bytes and does one thing at a time. Errors of the client are passed on.
    """

    def __init__(self, client: Redis, keys: GroupKeys, consumer: str) -> None:
        self.keys = keys
        self.consumer = consumer
        self.client = client

    async def create(self, start: str) -> bool:
        """Make sure that stream and group exist; True if the group had been destroyed.

        A new group begins at ``start`` ("0": everything, "$": what comes from now on, or an id), one that
        was destroyed where it was.
        """
        stream, group = self.keys.stream, self.keys.group
        cursor = cast("bytes | None", await self.client.get(self.keys.cursor))
        begin = start
        if cursor is not None:
            if not _CURSOR.fullmatch(cursor):
                shown = as_text(cursor[:40])
                raise WrongKey(f"{self.keys.cursor} holds {shown!r}, which is no id of an entry; remove it")
            try:
                last = as_text((await self.client.xinfo_stream(stream))["last-generated-id"])
            except errors.ResponseError:
                last = "0-0"
            begin = after(cursor.decode())
            # Ids below the cursor: the stream itself was made anew, and nobody has seen any of it.
            begin = begin if parts(begin) <= parts(last) else "0"
        try:
            await self.client.xgroup_create(stream, group, begin, mkstream=True)
        except errors.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            return False
        if cursor is not None:
            log.warning("group_created_again", stream=stream, group=group, begin=begin)
            return True
        info = await group_info(self.client, self.keys)
        if info is not None:
            await self.client.set(self.keys.cursor, info["last-delivered-id"], nx=True)
        return False

    async def check_keys(self) -> None:
        """Raises `WrongKey`, which names it, if a key of ours holds something else."""
        keys = self.keys
        wanted = {keys.stream: "stream", keys.later: "zset", keys.cursor: "string", keys.exposed: "hash"}
        wanted |= {keys.ledger: "hash", keys.early: "set", keys.trimmed: "string"}
        for key, kind in wanted.items():
            await check_key(self.client, key, kind)

    async def own(self) -> list[Left]:
        """What was delivered to this consumer and never acknowledged, all of it."""
        left: list[Left] = []
        first = "-"
        while True:
            page = await self.client.xpending_range(
                self.keys.stream, self.keys.group, first, "+", PAGE, self.consumer
            )
            left += [Left(as_text(cast("bytes", p["message_id"])), int(p["times_delivered"])) for p in page]
            if len(page) < PAGE:
                return left
            first = "(" + left[-1].id

    async def sweep(self, lease_ms: int, begin: str) -> tuple[str, list[Left], list[str]]:
        """Where to go on ("0-0": done), what nobody renewed for ``lease_ms``; ours now, what was lost."""
        reply = await self._run(_SWEEP, lease_ms, begin, PAGE)
        left = [Left(as_text(id_), int(count)) for id_, count in reply[1]]
        return as_text(reply[0]), left, [as_text(id_) for id_ in reply[2]]

    async def take(
        self, deliveries: Sequence[tuple[str, int]], *, exposes: int = 0
    ) -> list[Fields | bool | None]:
        """The fields of entries of ours, by id, whose delivery has this number now.

        None if somebody else has it, False if the stream has lost it. What they are exposed to, if anything,
        is noted.
        """
        keys, notes = (self.keys.stream, self.keys.exposed), (exposes, _EXPOSED_TTL)
        arguments = [argument for delivery in deliveries for argument in delivery]
        replies = await _TAKE(self.client, keys, self.keys.group, self.consumer, *notes, *arguments)
        return [
            dict(zip(reply[::2], reply[1::2], strict=True)) if reply else None if reply is None else False
            for reply in replies
        ]

    async def exposed(self) -> dict[str, int]:
        """Entries that were taken in a cohort and not `cleared` since, and what they were exposed to."""
        exposed = await self.client.hgetall(self.keys.exposed)
        return {as_text(id_): int(cohort) for id_, cohort in exposed.items()}

    async def cleared(self, ids: Sequence[str]) -> None:
        """Their cohort came to its end."""
        if ids:
            await self.client.hdel(self.keys.exposed, *ids)

    async def renew(self, ids: Sequence[str]) -> list[str]:
        """Renew the leases; the ids that are no longer ours."""
        gone: list[str] = []
        for at in range(0, len(ids), 500):
            gone += [as_text(id_) for id_ in await self._run(_RENEW, *ids[at : at + 500])]
        return gone

    async def release(self, ids: Sequence[str], lease_ms: int, *, uncount: bool = True) -> None:
        """Give entries up: whoever sweeps next gets them, and with ``uncount`` this delivery was none."""
        for at in range(0, len(ids), 500):
            await self._run(_RELEASE, lease_ms, int(uncount), *ids[at : at + 500])

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Acknowledge entries that have nothing to commit."""
        if ids:
            await ACKNOWLEDGE(self.client, [self.keys.stream], self.keys.group, *ids)

    async def tidy(self, gone_ms: int) -> int:
        """Remove consumers without entries that have been silent for ``gone_ms``; how many."""
        return int(await self._run(_TIDY, gone_ms))

    async def leave(self) -> None:
        """Remove this consumer, unless entries wait for it."""
        await self._run(_TIDY, 0)

    async def trim(self, keep_from: str, gone_ms: int) -> tuple[str, float]:
        """Trim what all groups have acknowledged and comes before the entry ``keep_from``.

        Returns the first entry that any group needs, and the seconds for which the most silent consumer of
        them has not been heard of, but for those that were silent for ``gone_ms``.
        """
        keys = (self.keys.stream, self.keys.trimmed)
        needed, silent_ms = await _TRIM(self.client, keys, keep_from, gone_ms)
        return as_text(needed), silent_ms / 1000

    async def trim_to(self, max_length: int) -> int:
        """Trim to about ``max_length`` entries, read or not; how many went."""
        return int(await self.client.xtrim(self.keys.stream, maxlen=max_length))

    async def come_back(self, again: str) -> int:
        """Move what is due by the server's time from the delay set to stream ``again``; how many entries.

        What is no entry (somebody else's) goes to the list ``{later}:unreadable``.
        """
        moved, total = PAGE, 0
        while moved == PAGE:
            keys = (self.keys.later, again, f"{self.keys.later}:unreadable")
            moved = int(await _DUE(self.client, keys, PAGE, self.keys.place("")))
            total += moved
        return total

    async def entries_lost(self) -> int:
        """How many entries it has ever lost."""
        return int(await self.client.hget(self.keys.ledger, "lost") or 0)

    async def figures(self) -> dict[str, Any]:
        """Length of the stream, of the delay set; the group's lag (None: unknown), pending and consumers.

        ``oldest_ms`` is when the first entry that is not finished was appended, None if there is none.
        """
        length = await self.client.xlen(self.keys.stream)
        figures = {"length": int(length), "delayed": int(await self.client.zcard(self.keys.later))}
        info = await group_info(self.client, self.keys)
        if info is None:
            return figures
        counts = {name: int(info[name]) for name in ("pending", "consumers")}
        oldest = await self._oldest(as_text(info["last-delivered-id"]), counts["pending"])
        return {**figures, "lag": info.get("lag"), **counts, "oldest_ms": oldest}

    async def _oldest(self, delivered: str, pending: int) -> int | None:
        if pending:
            first = (await self.client.xpending(self.keys.stream, self.keys.group))["min"]
        else:
            unread = await self.client.xrange(self.keys.stream, f"({delivered}", "+", 1)
            first = unread[0][0] if unread else None
        return None if first is None else parts(as_text(first))[0]

    async def _run(self, script: Script, *arguments: str | int) -> Any:
        return await script(self.client, [self.keys.stream], self.keys.group, self.consumer, *arguments)


class Groups:
    """The group ``keys`` and that of its retries, as ``consumer`` sees them, through ``client``.

    One task at a time uses them, in a `turn`.
    """

    def __init__(self, client: Redis, keys: GroupKeys, consumer: str, timeout: float) -> None:
        self.main = StreamGroup(client, keys, consumer)
        self.retries = StreamGroup(client, GroupKeys(keys.again, keys.group), consumer)
        self._lock = asyncio.Lock()
        self._timeout = timeout

    def __iter__(self) -> Iterator[StreamGroup]:
        return iter((self.main, self.retries))

    def of(self, keys: GroupKeys) -> StreamGroup:
        """The one of these keys."""
        return self.main if keys == self.main.keys else self.retries

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for whoever uses the client, then use it for ``timeout`` seconds at most."""
        async with self._lock:
            with anyio.fail_after(self._timeout):
                yield


async def group_info(client: Redis, keys: GroupKeys) -> Mapping[str, Any] | None:
    """What XINFO GROUPS says of the group; None if there is no such group on the stream."""
    groups = await client.xinfo_groups(keys.stream)
    return next((group for group in groups if as_text(group["name"]) == keys.group), None)


async def check_key(client: Redis, key: str, kind: str) -> None:
    """Raises `WrongKey` if a key is of another kind (as TYPE says it)."""
    try:
        found = as_text(await client.type(key))
    except errors.NoPermissionError:
        return  # whoever may not ask learns it from the commands that fail
    if found not in (kind, "none"):
        raise WrongKey(f"{key} is a {found}, not a {kind}; remove it, or choose other names")


def after(cursor: str) -> str:
    """The id behind which a group begins, from a stored cursor.

    >>> after("5-7"), after("(5-7"), after("(5-0")
    ('5-7', '5-6', '4-18446744073709551615')
    """
    if not cursor.startswith("("):
        return cursor
    ms, number = parts(cursor[1:])
    if number:
        return f"{ms}-{number - 1}"
    return f"{ms - 1}-{2**64 - 1}" if ms else "0-0"


def parts(id_: str) -> tuple[int, int]:
    """An id as numbers: milliseconds since 1970, and which of them."""
    ms, _, number = id_.partition("-")
    return int(ms), int(number or 0)
