-- KEYS: list. ARGV: entry, its position, its replacement, its twin (or empty). The twin goes only where the
-- entry stays.
local rank = 1
if tonumber(ARGV[2]) * 2 > redis.call('LLEN', KEYS[1]) then rank = -1 end
local at = redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', rank)
if not at then return 0 end
redis.call('LSET', KEYS[1], at, ARGV[3])
if ARGV[4] ~= '' then redis.call('LREM', KEYS[1], 1, ARGV[4]) end
return 1
