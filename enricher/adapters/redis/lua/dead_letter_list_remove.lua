-- KEYS: list. ARGV: entry, its position. Looks from the end that is nearer.
local count = 1
if tonumber(ARGV[2]) * 2 > redis.call('LLEN', KEYS[1]) then count = -1 end
return redis.call('LREM', KEYS[1], count, ARGV[1])
