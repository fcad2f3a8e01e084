-- Trims what every group of the stream has acknowledged.
-- KEYS: stream, how many went so. ARGV: the id of the first entry to keep in any case, silence (ms) after which
-- a consumer is gone. Replies the id of the first entry that a group needs, and for how long (ms) the most silent
-- consumer has not been heard of, but for those that are gone.
local needed, silent = false, 0
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(fields)
  local first = group['last-delivered-id']
  if group.pending > 0 then first = redis.call('XPENDING', KEYS[1], group.name)[2] end
  if not needed or is_before(first, needed) then needed = first end
  for _, other in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group.name)) do
    local idle = named(other).idle
    if idle < tonumber(ARGV[2]) then silent = math.max(silent, idle) end
  end
end
if not needed then return {'0-0', 0} end
local gone = redis.call('XTRIM', KEYS[1], 'MINID', '~', is_before(needed, ARGV[1]) and needed or ARGV[1])
if gone > 0 then redis.call('INCRBY', KEYS[2], gone) end
return {needed, silent}
