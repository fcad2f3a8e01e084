"""The ledger of a consumer group: what its stream lost before the group had read it, and which stream it is.

A server counts what was ever added to a stream, and neither what of it was read nor what was deleted unread.
The ledger, hash ``{stream}:{group}:ledger``, counts what was acknowledged (``done``; see ``ack.lua``). So

    added = done + pending + unread + lost

and the script that looks knows all of them at one moment. It is asked once a second and when a worker starts,
by every worker of the group; each loss is found by one of them, once. Acknowledgements by others (a worker of
another kind) are in no count: what is missing is a loss only if something not yet read can have gone since
the last look, and no more than others deleted; our own trimming takes what was read.

A stream that was deleted and made anew has ids that mean something else: each has a ``life`` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.raw_connection import IS_BEFORE
from enricher.adapters.redis.stream.entry import GroupKeys

# KEYS: stream, ledger, how many entries our trimming took, cursor, early, exposed. ARGV: group, how many of
# its entries the caller has in hand, how many more it found lost, then what it remembers of the ledger.
# Replies how many were lost, from which id to which, and the ledger; nothing where the server counts too
# little.
LOOK = IS_BEFORE + """
local MOST = 200
local function named(list, first)
  local found = {}
  for i = first or 1, #list, 2 do found[list[i]] = list[i + 1] end
  return found
end
local function mark(fields) return redis.sha1hex(cmsgpack.pack(fields)) end

local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
  if not string.find(info.err, 'no such key', 1, true) then return false end
  info = {['entries-added'] = 0, length = 0, ['last-generated-id'] = '0-0', ['max-deleted-entry-id'] = '0-0'}
else
  info = named(info)
end
local added, length, last = info['entries-added'], info.length, info['last-generated-id']
local deleted = info['max-deleted-entry-id']
if not added then return false end
local first = info['first-entry'] and info['first-entry'][1]
local newest = info['last-entry'] and info['last-entry'][1]
local trimmed = tonumber(redis.call('GET', KEYS[3]) or '0')
local clock = redis.call('TIME')

local held = named(redis.call('HGETALL', KEYS[2]))
if not held.added and #ARGV > 3 then
  -- Somebody has emptied the server, or this key alone.
  local done = held.done
  held = named(ARGV, 4)
  held.done = done or held.done
end
local known = held.added ~= nil
local function number(name) return tonumber(held[name] or '0') end

local lost, from, to = 0, '', ''
local anew = known and (added < number('added') or is_before(last, held.last))
if known and not anew and held.probe ~= '' then
  local entry = info['last-entry']
  if held.probe ~= newest then entry = redis.call('XRANGE', KEYS[1], held.probe, held.probe)[1] end
  if entry then
    anew = mark(entry[2]) ~= held.mark
  else
    -- Had it been trimmed, no more could be left than was added since.
    anew = first and is_before(held.last, first) and length > added - number('added')
  end
end
if anew then
  local handled = number('done') - number('done_then') + tonumber(ARGV[2]) - number('pending')
  lost = math.max(0, number('unread') - math.max(0, handled))
  from, to = held.next ~= '' and held.next or held.delivered, held.last
  held = {lost = held.lost, delivered = '0-0', trimmed = trimmed, next = ''}
  redis.call('SET', KEYS[4], '0-0')
  redis.call('DEL', KEYS[5], KEYS[6])
end
if anew or not known then held.life = clock[1] .. string.format('%06d', clock[2]) end

local group
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, fields in ipairs(groups) do
  local each = named(fields)
  if each.name == ARGV[1] then group = each end
end
local pending = group and group.pending or 0
local delivered = group and group['last-delivered-id'] or held.delivered or '0-0'
local unread
if not group then unread = nil
elseif length == 0 or not is_before(delivered, newest) then unread = 0
elseif is_before(delivered, first) then unread = length
else
  local after = #redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', MOST)
  if after < MOST then unread = after
  else
    local before = #redis.call('XRANGE', KEYS[1], '-', delivered, 'COUNT', MOST)
    if before < MOST then unread = length - before end
  end
end
local removed = added - length
if group and not known and not anew then
  unread = unread or group.lag or length
  held.done = added - pending - unread
elseif unread then
  local missing = added - number('done') - pending - unread
  local since = held.delivered or '0-0'
  local gone = length == 0 or is_before(since, first) or is_before(since, deleted)
  if missing > 0 and gone then
    local others = removed - number('removed') - (trimmed - number('trimmed'))
    local more = math.max(0, math.min(missing, others))
    if more > 0 then
      lost = lost + more
      if from == '' then from = (held.next or '') ~= '' and held.next or since end
      to = (length == 0 and last) or (is_before(since, first) and first) or deleted
    end
  end
  held.done = number('done') + missing
end
if unread or not known or anew then
  -- While the entries not yet read are too many to be counted, the last count is what to compare with.
  held.delivered, held.removed, held.trimmed = delivered, removed, trimmed
end
if group then
  held.pending, held.unread, held.done_then = pending, added - number('done') - pending, number('done')
  local after = unread ~= 0 and redis.call('XRANGE', KEYS[1], '(' .. delivered, '+', 'COUNT', 1)[1]
  held.next = after and after[1] or ''
end
held.added, held.last = added, last
held.probe, held.mark = newest or '', newest and mark(info['last-entry'][2]) or ''
held.lost = number('lost') + lost + tonumber(ARGV[3])
local flat = {}
for name, value in pairs(held) do flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
redis.call('HSET', KEYS[2], unpack(flat))
return {lost, from, to, flat}
"""


class Look(msgspec.Struct, frozen=True):
    """What a look found: ``lost`` entries between the ids ``first`` and ``last``.

    ``total`` is how many the group has ever lost, ``life`` tells a stream from others that had its name.
    ``held`` is the ledger, to be handed in again should the server forget it.
    """

    lost: int
    first: str
    last: str
    total: int
    life: str
    held: Mapping[str, str]


async def look(
    client: Redis, keys: GroupKeys, held: Mapping[str, str], *, in_hand: int = 0, more: int = 0
) -> Look | None:
    """Look at a group's ledger, and bring it up to date; None where the server counts too little for one.

    ``in_hand`` entries of the group are under way here, ``more`` pending ones were found lost since the last
    look. ``client`` gives raw bytes. Its errors are passed on.
    """
    names = (keys.stream, keys.ledger, keys.trimmed, keys.cursor, keys.early, keys.exposed)
    remembered = [part for field in held.items() for part in field]
    reply = cast("Any", await client.eval(LOOK, len(names), *names, keys.group, in_hand, more, *remembered))
    if reply is None:
        return None
    lost, first, last, flat = reply
    texts = [part.decode() for part in flat]
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    return Look(int(lost), first.decode(), last.decode(), int(found["lost"]), found["life"], found)
