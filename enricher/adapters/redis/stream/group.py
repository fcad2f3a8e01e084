"""A consumer group on a stream, as the few questions and orders that a source has for it.

Every order that depends on who holds an entry is a script, so that nobody takes away what somebody else has
taken over meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.raw_connection import Link, pack
from enricher.adapters.redis.sink import ACKNOWLEDGE
from enricher.adapters.redis.stream.entry import Fields, GroupKeys
from enricher.adapters.redis.stream.ledger import Look, look
from enricher.log import log
from enricher.texts import as_text

PAGE = 100
_EXPOSED_TTL = 86400
_CURSOR = re.compile(rb"\(?[0-9]{1,20}(-[0-9]{1,20})?")

# In all of them KEYS: stream. ARGV: group, consumer, ...
# ... lease (ms), where to go on, how many. Replies where to go on, [id, deliveries] of what was taken over
# without counting as a delivery, ids that the stream has lost.
SWEEP = """
local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4],
  'COUNT', ARGV[5], 'JUSTID')
local taken = {}
for _, id in ipairs(found[2]) do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  taken[#taken + 1] = {id, held[1][4]}
end
local lost = found[3] or {}
if #lost > 0 then
  -- Whoever has one of them in memory may finish it, and then it was not lost (`ack.lua`).
  local group = KEYS[1] .. ':' .. ARGV[1]
  redis.call('HINCRBY', group .. ':ledger', 'done', #lost)
  redis.call('HINCRBY', group .. ':ledger', 'lost', redis.call('SADD', group .. ':gone', unpack(lost)))
  redis.call('EXPIRE', group .. ':gone', 86400)
end
return {found[1], taken, lost}
"""

# KEYS also: the exposed. ... what they are exposed to (0: nothing), for how many seconds that is known, ids
# and numbers of deliveries. Replies for each the fields; nothing if it is somebody else's; 0 if the stream
# has lost it, and then it waits no more.
TAKE = """
local replies = {}
for i = 5, #ARGV, 2 do
  local id, reply = ARGV[i], false
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', ARGV[i + 1])
    if entry[1] then
      reply = entry[1][2]
      if ARGV[3] ~= '0' then redis.call('HSET', KEYS[2], id, ARGV[3]) end
    else
      redis.call('XACK', KEYS[1], ARGV[1], id)
      redis.call('HINCRBY', KEYS[1] .. ':' .. ARGV[1] .. ':ledger', 'done', 1)
      reply = 0
    end
  end
  replies[#replies + 1] = reply
end
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[2], ARGV[4]) end
return replies
"""

# What the stream has lost is pending no more once it is claimed; whoever has it in memory may finish it.
CLAIMED = """
local function claimed(ids)
  if #ids == 0 then redis.call('HINCRBY', KEYS[1] .. ':' .. ARGV[1] .. ':ledger', 'done', 1) end
end
"""

# ... ids. Renews the lease of those that are still the consumer's; replies those that are not.
RENEW = CLAIMED + """
local gone = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 0 then
    gone[#gone + 1] = ARGV[i]
  else
    claimed(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID'))
  end
end
return gone
"""

# ... idle time to set (ms), deliveries to take back (0 or 1), ids. Lets the next sweep of anybody have them.
RELEASE = CLAIMED + """
for i = 5, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if held[1] then
    local before = math.max(held[1][4] - tonumber(ARGV[4]), 0)
    claimed(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i],
      'IDLE', ARGV[3], 'RETRYCOUNT', before, 'JUSTID'))
  end
end
"""

# ... idle time (ms) after which a consumer without entries has left; 0: the consumer itself leaves, now.
TIDY = """
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local found = {}
  for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
  local left = found.idle >= tonumber(ARGV[3]) and found.name ~= ARGV[2]
  if ARGV[3] == '0' then left = found.name == ARGV[2] end
  if left and found.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], found.name)
    removed = removed + 1
  end
end
return removed
"""

# KEYS also: how many went so. ARGV: the id of the first entry to keep in any case, silence (ms) after which a
# consumer is gone. Trims what every group has acknowledged. Replies the id of the first entry that a group
# needs, and for how long (ms) the most silent consumer has not been heard of, but for those that are gone.
TRIM = """
local function parts(id)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local function less(a, b)
  local ams, an = parts(a)
  local bms, bn = parts(b)
  return ams < bms or (ams == bms and an < bn)
end
local function named(fields)
  local found = {}
  for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
  return found
end
local needed, silent = false, 0
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(fields)
  local first = group['last-delivered-id']
  if group.pending > 0 then first = redis.call('XPENDING', KEYS[1], group.name)[2] end
  if not needed or less(first, needed) then needed = first end
  for _, other in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group.name)) do
    local idle = named(other).idle
    if idle < tonumber(ARGV[2]) then silent = math.max(silent, idle) end
  end
end
if not needed then return {'0-0', 0} end
local gone = redis.call('XTRIM', KEYS[1], 'MINID', '~', less(needed, ARGV[1]) and needed or ARGV[1])
if gone > 0 then redis.call('INCRBY', KEYS[2], gone) end
return {needed, silent}
"""

# KEYS: delay set, stream, list of what cannot be read. ARGV: how many, what the keys of places begin with.
# Replies how many were due.
COME_BACK = """
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then redis.call('ZREM', KEYS[1], '') end  -- who may not remove must not move, either
for _, entry in ipairs(due) do
  local fine, fields = pcall(cmsgpack.unpack, entry)
  if fine and type(fields) == 'table' and #fields > 0 and #fields % 2 == 0 then
    local id = redis.call('XADD', KEYS[2], '*', unpack(fields))
    for i = 1, #fields, 2 do
      if fields[i] == 'enricher-id' then
        redis.call('SET', ARGV[2] .. fields[i + 1], id, 'XX', 'EX', 86400)
      end
    end
  else
    redis.call('RPUSH', KEYS[3], entry)
  end
  redis.call('ZREM', KEYS[1], entry)
end
return #due
"""

# ... ids. Acknowledges what needs no commit.
ACK = ACKNOWLEDGE + """
for i = 2, #ARGV do acknowledge(KEYS[1], ARGV[1], ARGV[i]) end
advance()
"""


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
        self._client = client

    def beside(self, group: str) -> StreamGroup:
        """Another group on the same stream."""
        return StreamGroup(self._client, GroupKeys(self.keys.stream, group), self.consumer)

    async def create(self, start: str) -> bool:
        """Make sure that stream and group exist; True if the group had been destroyed.

        A new group begins at ``start`` ("0": everything, "$": what comes from now on, or an id), one that
        was destroyed where it was.
        """
        stream, group = self.keys.stream, self.keys.group
        held = cast("bytes | None", await self._client.get(self.keys.cursor))
        begin = start
        if held is not None and not _CURSOR.fullmatch(held):
            shown = held[:40].decode("utf-8", "backslashreplace")
            raise WrongKey(f"{self.keys.cursor} holds {shown!r}, which is no id of an entry; remove it")
        if held is not None:
            try:
                info = await self._client.xinfo_stream(stream)
                last = as_text(cast("bytes", info["last-generated-id"]))
            except errors.ResponseError:
                last = "0-0"
            # Ids below the cursor: the stream itself was made anew, and nobody has seen any of it.
            begin = after(held.decode())
            begin = begin if parts(begin) <= parts(last) else "0"
        try:
            await self._client.xgroup_create(stream, group, begin, mkstream=True)
        except errors.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            return False
        if held is None:
            for found in await self._client.xinfo_groups(stream):
                if as_text(found["name"]) == group:
                    await self._client.set(self.keys.cursor, found["last-delivered-id"], nx=True)
        else:
            log.warning("group_created_again", stream=stream, group=group, begin=begin)
        return held is not None

    async def check_keys(self) -> None:
        """Raises `WrongKey`, which names it, if a key of ours holds something else."""
        keys = self.keys
        wanted = {keys.stream: "stream", keys.later: "zset", keys.cursor: "string", keys.exposed: "hash"}
        wanted |= {keys.ledger: "hash", keys.early: "set", keys.trimmed: "string"}
        for key, kind in wanted.items():
            await check_key(self._client, key, kind)

    async def own(self) -> list[Left]:
        """What was delivered to this consumer and never acknowledged, all of it."""
        found: list[Left] = []
        first = "-"
        while True:
            page = await self._client.xpending_range(
                self.keys.stream, self.keys.group, first, "+", PAGE, self.consumer
            )
            found += [Left(as_text(cast("bytes", p["message_id"])), int(p["times_delivered"])) for p in page]
            if len(page) < PAGE:
                return found
            first = "(" + found[-1].id

    async def sweep(self, lease_ms: int, begin: str) -> tuple[str, list[Left], list[str]]:
        """Where to go on ("0-0": done), what nobody renewed for ``lease_ms``; ours now, what was lost."""
        reply = await self._run(SWEEP, lease_ms, begin, PAGE)
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
        found = await self._client.eval(TAKE, 2, *keys, self.keys.group, self.consumer, *notes, *arguments)
        return [
            None
            if reply is None
            else False
            if reply == 0
            else dict(zip(reply[::2], reply[1::2], strict=True))
            for reply in cast("list[Any]", found)
        ]

    async def exposed(self) -> dict[str, int]:
        """Entries that were taken in a company and not `cleared` since, and what they were exposed to."""
        found = await self._client.hgetall(self.keys.exposed)
        return {as_text(id_): int(company) for id_, company in found.items()}

    async def cleared(self, ids: Sequence[str]) -> None:
        """Their company came to its end."""
        if ids:
            await self._client.hdel(self.keys.exposed, *ids)

    async def renew(self, ids: Sequence[str]) -> list[str]:
        """Renew the leases; the ids that are no longer ours."""
        gone: list[str] = []
        for at in range(0, len(ids), 500):
            gone += [as_text(id_) for id_ in await self._run(RENEW, *ids[at : at + 500])]
        return gone

    async def release(self, ids: Sequence[str], lease_ms: int, *, uncount: bool = True) -> None:
        """Give entries up: whoever sweeps next gets them, and with ``uncount`` this delivery was none."""
        for at in range(0, len(ids), 500):
            await self._run(RELEASE, lease_ms, int(uncount), *ids[at : at + 500])

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """Acknowledge entries that have nothing to commit."""
        if ids:
            await self._client.eval(ACK, 1, self.keys.stream, self.keys.group, *ids)

    async def tidy(self, gone_ms: int) -> int:
        """Remove consumers without entries that have been silent for ``gone_ms``; how many."""
        return int(await self._run(TIDY, gone_ms))

    async def leave(self) -> None:
        """Remove this consumer, unless entries wait for it."""
        await self._run(TIDY, 0)

    async def trim(self, keep_from: str, gone_ms: int) -> tuple[str, float]:
        """Trim what all groups have acknowledged and comes before the entry ``keep_from``.

        Returns the first entry that any group needs, and the seconds for which the most silent consumer of
        them has not been heard of, but for those that were silent for ``gone_ms``.
        """
        needed, silent_ms = await self._client.eval(
            TRIM, 2, self.keys.stream, self.keys.trimmed, keep_from, gone_ms
        )
        return as_text(needed), silent_ms / 1000

    async def trim_to(self, max_length: int) -> int:
        """Trim to about ``max_length`` entries, read or not; how many went."""
        return int(await self._client.xtrim(self.keys.stream, maxlen=max_length))

    async def come_back(self, again: str) -> int:
        """Move what is due by the server's time from the delay set to stream ``again``; how many entries.

        What is no entry (somebody else's) goes to the list ``{later}:unreadable``.
        """
        moved, total = PAGE, 0
        while moved == PAGE:
            keys = (self.keys.later, again, f"{self.keys.later}:unreadable")
            moved = int(await self._client.eval(COME_BACK, 3, *keys, PAGE, self.keys.place("")))
            total += moved
        return total

    async def entries_lost(self) -> int:
        """How many entries it has ever lost."""
        return int(await self._client.hget(self.keys.ledger, "lost") or 0)

    async def look(self, held: Mapping[str, str], *, in_hand: int = 0, more: int = 0) -> Look | None:
        """What the group has lost since anybody looked; see `ledger.look`."""
        return await look(self._client, self.keys, held, in_hand=in_hand, more=more)

    async def figures(self) -> dict[str, Any]:
        """Length of the stream, of the delay set; the group's lag (None: unknown), pending and consumers."""
        length = await self._client.xlen(self.keys.stream)
        delayed = await self._client.zcard(self.keys.later)
        for found in await self._client.xinfo_groups(self.keys.stream):
            if as_text(found["name"]) == self.keys.group:
                return {
                    "length": int(length),
                    "delayed": int(delayed),
                    "lag": found.get("lag"),
                    "pending": int(found["pending"]),
                    "consumers": int(found["consumers"]),
                }
        return {"length": int(length), "delayed": int(delayed)}

    async def _run(self, script: str, *arguments: str | int) -> Any:
        return await self._client.eval(
            script, 1, self.keys.stream, self.keys.group, self.consumer, *arguments
        )


async def check_key(client: Redis, key: str, kind: str) -> None:
    """Raises `WrongKey` if a key is of another kind (as TYPE says it)."""
    try:
        found = as_text(await client.type(key))
    except errors.NoPermissionError:
        return  # whoever may not ask learns it from the commands that fail
    if found not in (kind, "none"):
        raise WrongKey(f"{key} is a {found}, not a {kind}; remove it, or choose other names")


async def told(link: Link, packed: Sequence[bytes]) -> list[Any]:
    """The replies to packed commands over ``link``. Raises the first that is an error."""
    replies = await link.ask(packed)
    for reply in replies:
        if isinstance(reply, errors.RedisError):
            raise reply
    return replies


def acknowledging(keys: GroupKeys, ids: Sequence[str]) -> bytes:
    """The packed command for entries that have nothing to commit."""
    return pack("EVAL", ACK, 1, keys.stream, keys.group, *ids)


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
