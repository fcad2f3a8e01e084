-- How queues stand. KEYS: prefix. ARGV: queues. Replies for each: waiting, running, scheduled, retrying, age of the
-- first that waits in ms, whether it is paused.
local now, rows = now_ms(), {}
for i, queue in ipairs(ARGV) do
  local stream, delayed = stream_of(queue), delayed_of(queue)
  local info = redis.call('EXISTS', stream) == 1 and group_info(redis.call('XINFO', 'GROUPS', stream), GROUP)
  local running = info and info.pending or 0
  local unread = redis.call('XLEN', stream) - running
  local gone = math.min(tonumber(redis.call('HGET', GONE, queue) or '0'), unread)
  local waiting = unread - gone + redis.call('ZCARD', limited_of(queue))
  local age, first = 0, info and '(' .. info['last-delivered-id'] or '-'
  for _, entry in ipairs(redis.call('XRANGE', stream, first, '+', 'COUNT', 100)) do
    if redis.call('HGET', job_key(entry[2][2]), 'state') == 'waiting' then
      age = now - tonumber(string.match(entry[1], '^%d+'))
      break
    end
  end
  local scheduled, retrying = redis.call('ZCARD', delayed), 0
  -- What is delayed only its job can tell; many are not asked one by one.
  for _, id in ipairs(redis.call('ZRANGE', delayed, 0, 999)) do
    local state = redis.call('HGET', job_key(id), 'state')
    if state == 'retrying' then retrying = retrying + 1 end
    if state == 'waiting' then waiting = waiting + 1 end
    if state ~= 'scheduled' then scheduled = scheduled - 1 end
  end
  rows[i] = {math.max(waiting, 0), running, scheduled, retrying, math.max(age, 0), redis.call('SISMEMBER', PAUSED, queue)}
end
return rows
