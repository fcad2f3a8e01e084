-- Brings the ledger of a group up to date, and finds what the stream lost before the group had read it.
-- KEYS: stream, ledger, how many entries our trimming took, cursor, early, exposed. ARGV: group, how many of its
-- entries the caller has in hand, then what it remembers of the ledger.
-- Replies how many were lost, from which id to which, and the ledger; nothing where the server counts too little.
local MOST = 200
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
if not held.added and #ARGV > 2 then
  -- Somebody has emptied the server, or this key alone.
  local done = held.done
  held = named(ARGV, 3)
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

local group = group_info(redis.pcall('XINFO', 'GROUPS', KEYS[1]), ARGV[1])
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
held.lost = number('lost') + lost
local flat = {}
for name, value in pairs(held) do flat[#flat + 1] = name; flat[#flat + 1] = tostring(value) end
redis.call('HSET', KEYS[2], unpack(flat))
return {lost, from, to, flat}
