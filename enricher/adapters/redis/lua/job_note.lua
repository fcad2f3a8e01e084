-- Notes something of a run in its job. KEYS: prefix. ARGV: id, run, field, value, "1" if it is added as lines.
-- Replies 1, or 0 if the run is not the job's last or has ended.
local key = job_key(ARGV[1])
local run, state = unpack(redis.call('HMGET', key, 'run', 'state'))
if run ~= ARGV[2] or state ~= 'running' then return 0 end
if ARGV[5] then add_lines(key, ARGV[3], ARGV[4]) else redis.call('HSET', key, ARGV[3], ARGV[4]) end
return 1
