-- Lands one batch of part `floor`. ARGV: how many claims, keys and members follow, then
--   claims:  key, value or member, message   published on ARGV[4] (a value) or ARGV[5] (a member), if any
--   keys:    key, value, ttl_ms, version     set unless a newer version was set
--   members: key, score, new, old            of a sorted set
-- Returns how many claims somebody else had.
local claims, keys, members = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local call, at, lost = redis.call, 6, 0
for _ = 1, claims do
  local key, claim, message = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  at = at + 3
  local channel, new = ARGV[5], true
  if string.sub(key, 1, 10) == 'processed:' then
    channel = ARGV[4]
    local held = call('GET', key)
    new = not (held and string.find(held, claim, 1, true))
    if new then call('SET', key, held and (claim .. ',' .. held) or claim, 'EX', 3600) end
  else
    new = call('SADD', key, claim) == 1
    if new then call('EXPIRE', key, 600) end
  end
  if not new then
    lost = lost + 1
  elseif message ~= '' then
    call('PUBLISH', channel, message)
  end
end
for _ = 1, keys do
  local guard = 'version:' .. ARGV[at]
  local held = tonumber(call('GET', guard) or '')
  if not (held and held > tonumber(ARGV[at + 3])) then
    call('SET', ARGV[at], ARGV[at + 1], 'PX', ARGV[at + 2])
    call('SET', guard, ARGV[at + 3], 'EX', 86400)
  end
  at = at + 4
end
for _ = 1, members do
  if ARGV[at + 3] ~= '' then call('ZREM', ARGV[at], ARGV[at + 3]) end
  call('ZADD', ARGV[at], ARGV[at + 1], ARGV[at + 2])
  at = at + 4
end
return lost
