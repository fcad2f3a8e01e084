-- What every script that acknowledges stream entries begins with.
--
-- The cursor of a group, key `{stream}:{group}:cursor`, says where the group has to begin should somebody
-- destroy it: an id up to which everything was acknowledged, or "(" and the lowest id that was not.
local acknowledged = {}

-- Whether the entry is the caller's to commit. An entry that waits for no acknowledgement although the
-- stream holds it was committed by somebody, or its group has gone and it will be delivered again. One
-- that the stream has lost is known to the caller alone.
local function to_commit(stream, group, id)
  local pending = redis.pcall('XPENDING', stream, group, id, id, 1)
  if not pending.err and #pending > 0 then return true end
  local entry = redis.pcall('XRANGE', stream, id, id)
  return entry.err ~= nil or #entry == 0
end

local function acknowledge(stream, group, id)
  redis.pcall('XACK', stream, group, id)
  acknowledged[stream .. '\n' .. group] = {stream, group}
end

local function last_delivered(stream, group)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, fields in ipairs(groups) do
    local found = {}
    for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
    if found.name == group then return found['last-delivered-id'] end
  end
end

-- Once, at the end of the script: the cursors of the groups for which something was acknowledged.
local function advance()
  for _, name in pairs(acknowledged) do
    local stream, group = name[1], name[2]
    local pending = redis.pcall('XPENDING', stream, group)
    if not pending.err then
      local cursor = pending[1] > 0 and '(' .. pending[2] or last_delivered(stream, group)
      if cursor then redis.pcall('SET', stream .. ':' .. group .. ':cursor', cursor) end
    end
  end
end
