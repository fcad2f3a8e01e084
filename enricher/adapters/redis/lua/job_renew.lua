-- Renews the leases of runs, and says that a worker is there. KEYS: prefix. ARGV: worker, its description (JSON),
-- seconds for which it is known, then queue, entry and id of each run.
-- Replies the ids of those that are somebody else's by now, and of those that were cancelled.
local worker, now = ARGV[1], now_ms()
local lapsed, cancelled = {}, {}
redis.call('ZADD', PREFIX .. ':workers', now, worker)
redis.call('SET', PREFIX .. ':worker:' .. worker, ARGV[2], 'EX', ARGV[3])
for i = 4, #ARGV, 3 do
  local queue, entry, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local row = redis.call('XPENDING', stream_of(queue), GROUP, entry, entry, 1)[1]
  if row and row[2] == worker then
    redis.call('XCLAIM', stream_of(queue), GROUP, worker, 0, entry, 'JUSTID')
    if redis.call('HGET', job_key(id), 'cancelling') then cancelled[#cancelled + 1] = id end
  else
    lapsed[#lapsed + 1] = id
  end
end
return {lapsed, cancelled}
