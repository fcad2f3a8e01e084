-- Renews the leases of runs, and says that a worker is there. KEYS: prefix. ARGV: worker, its description (JSON),
-- seconds for which it is known (three leases), then queue, id and number of each run.
-- Replies which of the runs have begun elsewhere, which are gone, and which were cancelled, counted from 0; and the
-- order that the worker was given.
local worker, now = ARGV[1], now_ms()
local lapsed, gone, cancelled = {}, {}, {}

-- A queue that was deleted, and with it who holds what: the run gets another entry.
local function restore(queue, id)
  local entry = append(queue, id)
  redis.call('HSET', job_key(id), 'entry', entry)
  redis.call('XCLAIM', stream_of(queue), GROUP, worker, 0, entry, 'FORCE', 'JUSTID')
end

for i = 4, #ARGV, 3 do
  local at = (i - 4) / 3
  local queue, id, number = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local state, run, entry, cancelling = fields_of(id, 'state', 'run', 'entry', 'cancelling')
  if not state then
    gone[#gone + 1] = at
  elseif run ~= number then
    lapsed[#lapsed + 1] = at
  elseif state == 'running' and entry then
    local stream = stream_of(queue)
    local holder = (redis.call('XPENDING', stream, GROUP, entry, entry, 1)[1] or {})[2]
    -- Taken for dead, and not begun elsewhere: it is this worker's again.
    if holder == NOBODY then redis.call('ZREM', LOST, queue .. ' ' .. entry .. ' ' .. id) end
    if holder then
      redis.call('XCLAIM', stream, GROUP, worker, 0, entry, 'JUSTID')
    elseif #redis.call('XRANGE', stream, entry, entry) == 0 then
      restore(queue, id)
    else
      redis.call('XCLAIM', stream, GROUP, worker, 0, entry, 'FORCE', 'JUSTID')
    end
    if cancelling then cancelled[#cancelled + 1] = at end
  end
end
local lease, heard = ARGV[3] * 1000 / 3, redis.call('ZSCORE', PREFIX .. ':workers', worker)
if heard and now - heard > lease * 2 / 3 then redis.call('SET', LATE, 1, 'PX', math.ceil(lease / 2)) end
-- Last: a server whose memory is full would refuse these, and the leases with them.
redis.call('ZADD', PREFIX .. ':workers', now, worker)
redis.call('ZREMRANGEBYSCORE', PREFIX .. ':workers', '-inf', now - 86400000)
redis.call('SET', PREFIX .. ':worker:' .. worker, ARGV[2], 'EX', ARGV[3])
redis.call('EXPIRE', told_key(worker), ARGV[3])
return {lapsed, gone, cancelled, redis.call('GET', told_key(worker)) or ''}
