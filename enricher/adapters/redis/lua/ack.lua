-- What every script that acknowledges stream entries begins with: `to_commit`, `acknowledge`, `advance`.
--
-- The cursor of a group, key `{stream}:{group}:cursor`, says where the group has to begin should somebody
-- destroy it: an id up to which everything was acknowledged, or "(" and the lowest id that was not.
local acknowledged = {}

-- The set `{stream}:{group}:early` has the ids that were committed while their group was gone: they will
-- be delivered again, and then nothing of them must land.
local EARLY_TTL = 86400

local function early(stream, group)
  return stream .. ':' .. group .. ':early'
end

-- The reply to a command. An error that speaks of the stream (it or its group is gone, or it is none) is an
-- answer; any other one refuses the caller, who must not take what was not done for done.
local function ask(...)
  local reply = redis.pcall(...)
  local problem = type(reply) == 'table' and reply.err
  if problem and not (string.find(problem, '^NOGROUP') or string.find(problem, '^WRONGTYPE')
      or string.find(problem, 'no such key', 1, true)) then
    local command, key = ...
    error(problem .. ' (' .. command .. ' ' .. key .. ')', 0)
  end
  return reply
end

-- Whether the caller may acknowledge at all is found out before anything lands.
local asked = {}
local function may_acknowledge(stream, group)
  local name = stream .. '\n' .. group
  if asked[name] then return end
  ask('XACK', stream, group, '0-0')
  ask('EXISTS', stream .. ':' .. group .. ':cursor')
  ask('XINFO', 'GROUPS', stream)
  asked[name] = true
end

local function last_delivered(stream, group)
  local info = group_info(ask('XINFO', 'GROUPS', stream), group)
  return info and info['last-delivered-id']
end

local function acknowledge(stream, group, id)
  local name = stream .. '\n' .. group
  local held = acknowledged[name] or {stream, group, 0}
  acknowledged[name] = held
  local done = ask('XACK', stream, group, id)
  if done == 1 then
    held[3] = held[3] + 1
  elseif done == 0 then
    -- What the stream no longer has is not delivered again: an entry of this id would be another one.
    local entry = ask('XRANGE', stream, id, id)
    if entry.err or #entry == 0 then
      -- Whoever looked after the stream took it for lost, and here it was.
      if redis.pcall('SREM', stream .. ':' .. group .. ':gone', id) == 1 then
        redis.pcall('HINCRBY', stream .. ':' .. group .. ':ledger', 'lost', -1)
      end
      return
    end
    ask('SADD', early(stream, group), id)
    ask('EXPIRE', early(stream, group), EARLY_TTL)
  end
end

-- Whether the entry is the caller's to commit.
local function to_commit(stream, group, id)
  may_acknowledge(stream, group)
  local pending = ask('XPENDING', stream, group, id, id, 1)
  if not pending.err and #pending > 0 then
    if ask('SREM', early(stream, group), id) ~= 1 then return true end
    acknowledge(stream, group, id)
    return false
  end
  -- One that the stream has lost is known to the caller alone.
  local entry = ask('XRANGE', stream, id, id)
  if entry.err or #entry == 0 then return true end
  -- Not pending but there: either somebody has committed it, or the group was destroyed.
  local last = not pending.err and last_delivered(stream, group)
  if last and not is_before(last, id) then return false end
  return ask('SISMEMBER', early(stream, group), id) == 0
end

-- Once, at the end of the script: cursors and ledgers of the groups for which something was acknowledged.
local function advance()
  for _, name in pairs(acknowledged) do
    local stream, group, done = unpack(name)
    if done > 0 then redis.pcall('HINCRBY', stream .. ':' .. group .. ':ledger', 'done', done) end
    local pending = redis.pcall('XPENDING', stream, group)
    if not pending.err then
      local cursor = pending[1] > 0 and '(' .. pending[2] or last_delivered(stream, group)
      if cursor then redis.pcall('SET', stream .. ':' .. group .. ':cursor', cursor) end
    end
  end
end
