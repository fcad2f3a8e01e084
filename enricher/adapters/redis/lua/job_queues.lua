-- How queues stand. KEYS: prefix. ARGV: queues. Replies for each: waiting, running, scheduled, retrying, age of the
-- first that waits in ms, whether it is paused.
local now, rows = now_ms(), {}
for i, queue in ipairs(ARGV) do
  local stream, delayed = stream_of(queue), delayed_of(queue)
  local info = redis.call('EXISTS', stream) == 1 and group_info(redis.call('XINFO', 'GROUPS', stream), GROUP)
  local running = info and info.pending or 0
  local waiting = redis.call('XLEN', stream) - running
  local first = redis.call('XRANGE', stream, info and '(' .. info['last-delivered-id'] or '-', '+', 'COUNT', 1)[1]
  local age = first and now - tonumber(string.match(first[1], '^%d+')) or 0
  local late = redis.call('ZCARD', delayed)
  -- Those that were tried are told from those that were not by their jobs; many are not looked at one by one.
  local retrying = 0
  for _, id in ipairs(redis.call('ZRANGE', delayed, 0, 999)) do
    if redis.call('HGET', job_key(id), 'state') == 'retrying' then retrying = retrying + 1 end
  end
  rows[i] = {waiting, running, late - retrying, retrying, math.max(age, 0), redis.call('SISMEMBER', PAUSED, queue)}
end
return rows
