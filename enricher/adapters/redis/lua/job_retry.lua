-- Lets a job wait for a worker now: one that failed, was cancelled, or is delayed. KEYS: prefix. ARGV: id.
-- Replies the state that it was in, false if there is no such job, and who has its unique key, if another has.
local id, now = ARGV[1], now_ms()
local key = job_key(id)
local state, queue, unique, lasts = unpack(redis.call('HMGET', key, 'state', 'queue', 'unique', 'until'))
if state == 'scheduled' or state == 'retrying' then
  redis.call('ZREM', delayed_of(queue), id)
  redis.call('HDEL', key, 'due')
  redis.call('HSET', key, 'state', 'waiting')
  append(queue, id)
elseif state == 'failed' or state == 'cancelled' then
  -- What is unique for a time was so for when it was enqueued, which this is not.
  local holder = unique and lasts ~= 'time' and other_holder(id, unique, lasts, 0)
  if holder then return {state, holder} end
  local at, failures, problem = unpack(redis.call('HMGET', key, 'finished', 'failures', 'error'))
  if state == 'failed' and problem then add_failure(key, at or now, failures, problem) end
  redis.call('PERSIST', key)
  redis.call('ZREM', PREFIX .. ':finished:' .. state, id)
  redis.call('HDEL', key, 'finished', 'failures', 'lost', 'deaths', 'silent', 'due', 'cancelling', 'progress', 'entry',
    'worker')
  -- Whoever was taken for dead and still runs it has an older run.
  redis.call('HINCRBY', key, 'run', 1)
  redis.call('HSET', key, 'state', 'waiting')
  redis.call('DEL', 'celery-task-meta-' .. id)
  append(queue, id)
end
return {state, false}
