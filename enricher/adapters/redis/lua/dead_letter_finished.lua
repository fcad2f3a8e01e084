-- KEYS: stream, stream on which delayed entries come back, place. ARGV: group, id of the entry. Replies 1 if
-- the group has finished it, 0 if not yet, -1 if there is no such group. It is asked again and again, so it
-- looks through neither the delay set nor a stream: whoever puts the entry off says so in its place, and so
-- does whoever brings it back.
local function finished(stream, id)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  local info = not groups.err and group_info(groups, ARGV[1])
  if not info then return end
  if is_before(info['last-delivered-id'], id) then return false end
  return #redis.call('XPENDING', stream, ARGV[1], id, id, 1) == 0
end
local done = finished(KEYS[1], ARGV[2])
if done == nil then return -1 end
if not done then return 0 end
local place = redis.call('GET', KEYS[3])
if not place or place == 'sent' then return 1 end
return place ~= 'later' and finished(KEYS[2], place) and 1 or 0
