-- Notes something of a run in its job. KEYS: prefix. ARGV: id, run, field, value.
-- Replies 1, or 0 if the run is not the job's last or has ended.
local key = job_key(ARGV[1])
local run, state = unpack(redis.call('HMGET', key, 'run', 'state'))
if run ~= ARGV[2] or state ~= 'running' then return 0 end
redis.call('HSET', key, ARGV[3], ARGV[4])
return 1
