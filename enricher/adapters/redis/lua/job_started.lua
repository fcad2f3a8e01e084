-- Shows that a job runs, on a server that has the results alone. KEYS: its result. ARGV: STARTED as a result, its
-- ttl in s. What has ended meanwhile stays: a worker that was held up may come late.
local shown = string.match(redis.call('GET', KEYS[1]) or '', '"status":"(%u+)"')
if shown and shown ~= 'RETRY' and shown ~= 'STARTED' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
