-- Lands the visible effects of some writes. One call is atomic, each write in it stands for itself:
-- an error in one is reported for that one and the others go on.
--
-- ARGV is a flat list. ARGV[1] is the number of writes; each write is: a word with a letter per effect, then
-- what the effects take, in this order: fence, acknowledgement and claims first. By its letter an effect takes:
--   F key number               go on only if `key` holds `number`; else somebody else does this work now,
--                              and nothing of the write lands
--   A stream group id          acknowledge, after all the others; if somebody has done so before, nothing
--                              of its write lands
--   K key value ttl_s          claim `value` among the last eight values of the string `key`
--   M key member ttl_s         claim `member` in the set `key`
--   S key value ttl_ms         set
--   V key value ttl_ms version set unless a newer version was set in the last 24 hours
--   Z key field twin member score version   one member per field of a sorted set, newest version
--                              wins; `twin` is the only other field that may hold the same member
--   X key before               remove the members of all fields that sort before `before`
--   P channel message          publish
--   E stream most fields       append an entry; `fields` is a MessagePack list of names and values
--   L key delay_ms place fields   keep an entry in a delay set; the key `place` says so, if it exists
-- Replies one string per write: "" landed, "=" somebody had claimed it, else the error's text, and after a line
-- feed how many of its effects P, E and L had been seen by then, if any: these cannot be taken back.
-- Comes after `ack.lua`. RECORD is the stream to which everything that is published is appended, false for none, and RECORDED about
-- how many entries of it are kept.
local VERSION_TTL = 86400
local KEPT = 8
local PLACE_TTL_MS = 86400000

-- The reply to a command. An error says which command it was, and on what: Redis 7.0 does not.
local function call(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    local command, key = ...
    error(reply.err .. ' (' .. command .. ' ' .. key .. ')', 0)
  end
  return reply
end

-- What takes back the claims of the write in hand, should one of its effects fail: a message that
-- ends as a dead letter must find itself unclaimed when it is tried again.
local undo = {}

local function claim_value(key, value, ttl)
  local held = call('GET', key)
  local kept = {value}
  -- Anything but a list of 16-digit times (an old worker's "1") is no claim.
  if held then
    for old in string.gmatch(held, '[^,]+') do
      if old == value then return false end
      if #old > 6 and #kept < KEPT then kept[#kept + 1] = old end
    end
  end
  call('SET', key, table.concat(kept, ','), 'EX', ttl)
  undo[#undo + 1] = function()
    -- By the command that made it: another one may be forbidden.
    if held then redis.pcall('SET', key, held, 'EX', ttl) else redis.pcall('SET', key, '', 'PX', 1) end
  end
  return true
end

-- Sets of which is known that a claim could be taken back.
local removable = {}

local function claim_member(key, member, ttl)
  if not removable[key] then
    -- Adding comes first: once a script has written, no command of it is refused for want of memory.
    call('SADD', key, '\n')
    call('SREM', key, '\n')
    removable[key] = true
  end
  local new = call('SADD', key, member) == 1
  if new then
    undo[#undo + 1] = function() redis.pcall('SREM', key, member) end
    call('EXPIRE', key, ttl)
  end
  return new
end

local function set(key, value, ttl_ms)
  if ttl_ms == '0' then call('SET', key, value) else call('SET', key, value, 'PX', ttl_ms) end
end

local function set_newest(key, value, ttl_ms, version)
  local version_key = 'version:' .. key
  local held = tonumber(call('GET', version_key) or '')
  if held and held > tonumber(version) then return end
  set(key, value, ttl_ms)
  call('SET', version_key, version, 'EX', VERSION_TTL)
end

local function member_of(entry)
  return entry and string.sub(entry, string.find(entry, '|', 1, true) + 1)
end

local function set_member(key, field, twin, member, score, version)
  local index = 'members:' .. key
  -- A sorted set without an index is an old worker's: nobody knows whose its members are.
  if call('EXISTS', index) == 0 then call('DEL', key) end
  local entry = call('HGET', index, field)
  if entry then
    if tonumber(string.match(entry, '^-?%d+')) > tonumber(version) then return end
    local old = member_of(entry)
    if old ~= member and old ~= '' and old ~= member_of(call('HGET', index, twin)) then
      call('ZREM', key, old)
    end
  end
  if member ~= '' then call('ZADD', key, score, member) end
  call('HSET', index, field, version .. '|' .. member)
end

local function drop_members(key, before)
  local index = 'members:' .. key
  local entries = call('HGETALL', index)
  local kept = {}
  for i = 1, #entries, 2 do
    if entries[i] >= before then kept[member_of(entries[i + 1])] = true end
  end
  for i = 1, #entries, 2 do
    if entries[i] < before then
      local member = member_of(entries[i + 1])
      call('HDEL', index, entries[i])
      if not kept[member] then call('ZREM', key, member) end
    end
  end
end

local at = 2
local function take(count)
  local first = at
  at = at + count
  return unpack(ARGV, first, at - 1)
end

local function append(stream, most, fields)
  local entry = cmsgpack.unpack(fields)
  if most == '0' then
    call('XADD', stream, '*', unpack(entry))
  else
    call('XADD', stream, 'MAXLEN', '~', most, '*', unpack(entry))
  end
end

local function keep(key, delay_ms, place, fields)
  call('ZADD', key, now_ms() + delay_ms, fields)
  if place ~= '' then call('SET', place, 'later', 'XX', 'PX', delay_ms + PLACE_TTL_MS) end
end

-- What the message in hand is known by: its claim, else the entry that it acknowledges. Whoever counts
-- entries with the same channel and identity counts duplicates.
local identity = ''

local seen = 0

local function publish(channel, message)
  -- Recorded first: a stream that cannot be appended to has shown nobody anything.
  local id = RECORD and call('XADD', RECORD, 'MAXLEN', '~', RECORDED, '*',
    'channel', channel, 'identity', identity, 'message', message)
  local fine, problem = pcall(call, 'PUBLISH', channel, message)
  if not fine then
    if id then redis.pcall('XDEL', RECORD, id) end
    error(problem, 0)
  end
end

local SIZES = {F = 2, A = 3, K = 3, M = 3, S = 3, V = 4, Z = 6, X = 2, P = 2, E = 3, L = 4}

local function land(word)
  local claimed = true
  local acks = {}
  for kind in string.gmatch(word, '.') do
    local a, b, c, d, e, f = take(SIZES[kind])
    if RECORD and (kind == 'K' or kind == 'M') then identity = a .. ' ' .. b end
    if kind == 'K' then claimed = claim_value(a, b, c) and claimed
    elseif kind == 'M' then claimed = claim_member(a, b, c) and claimed
    elseif kind == 'S' then set(a, b, c)
    elseif kind == 'V' then set_newest(a, b, c, d)
    elseif kind == 'Z' then set_member(a, b, c, d, e, f)
    elseif kind == 'X' then drop_members(a, b)
    elseif kind == 'P' and claimed then publish(a, b); seen = seen + 1
    elseif kind == 'E' and claimed then append(a, b, c); seen = seen + 1
    elseif kind == 'L' and claimed then keep(a, b, c, d); seen = seen + 1
    elseif kind == 'F' then
      if call('GET', a) ~= b then return false end
    elseif kind == 'A' then
      if not to_commit(a, b, c) then return false end
      identity = a .. ' ' .. b .. ' ' .. c
      acks[#acks + 1] = {a, b, c}
    end
  end
  for _, ack in ipairs(acks) do acknowledge(unpack(ack)) end
  return claimed
end

-- How many arguments the effects of a word take: most writes have the same few words.
local lengths = {}
local function length(word)
  local total = 0
  for kind in string.gmatch(word, '.') do total = total + SIZES[kind] end
  lengths[word] = total
  return total
end

local replies = {}
for number = 1, tonumber(ARGV[1]) do
  local word = ARGV[at]
  at = at + 1
  -- Where the next write starts, should this one fail half way.
  local after = at + (lengths[word] or length(word))
  undo, identity, seen = {}, '', 0
  local fine, result = pcall(land, word)
  at = after
  if fine then
    replies[number] = result and '' or '='
  else
    for _, step in ipairs(undo) do step() end
    replies[number] = tostring(type(result) == 'table' and result.err or result)
    if seen > 0 then replies[number] = replies[number] .. '\n' .. seen end
  end
end
advance()
return replies
