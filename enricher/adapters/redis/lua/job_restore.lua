-- Gives jobs of a queue entries that have none, for the queue was deleted. KEYS: prefix. ARGV: queue, lease in ms,
-- ids. Replies how many there were.
local queue, alive, restored = ARGV[1], now_ms() - ARGV[2], 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local key = job_key(id)
  local state, of, entry, worker, due = fields_of(id, 'state', 'queue', 'entry', 'worker', 'due')
  local delayed = redis.call('ZSCORE', delayed_of(queue), id)
  local missing = false
  if of ~= queue then
    missing = false
  elseif state == 'waiting' then
    missing = not delayed and not redis.call('ZSCORE', limited_of(queue), id)
  elseif state == 'running' then
    -- A worker that is there gives its runs other entries by itself, see `job_renew.lua`.
    local heard = tonumber(worker and redis.call('ZSCORE', PREFIX .. ':workers', worker) or '0')
    missing = heard < alive and #redis.call('XRANGE', stream_of(queue), entry or '-', entry or '-') == 0
    if missing then redis.call('HSET', key, 'state', 'waiting') end
  elseif (state == 'scheduled' or state == 'retrying') and not delayed then
    delay(queue, id, due or '0')
  end
  if missing then
    append(queue, id)
    restored = restored + 1
  end
end
if restored > 0 then redis.call('HDEL', GONE, queue) end
return restored
