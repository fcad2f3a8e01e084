-- Removes a job that does not run. KEYS: prefix. ARGV: id.
-- Replies the state that it was in, false if there is no such job.
local id = ARGV[1]
local key = job_key(id)
local state, queue, unique, limits = unpack(redis.call('HMGET', key, 'state', 'queue', 'unique', 'limits'))
if state and state ~= 'running' then
  if state == 'waiting' then leave_entry(id, queue) end
  redis.call('ZREM', delayed_of(queue), id)
  redis.call('ZREM', PREFIX .. ':finished:' .. state, id)
  forget_limits(id, queue, limits)
  release_unique(id, unique)
  redis.call('UNLINK', key)
  redis.call('DEL', 'celery-task-meta-' .. id)
end
return state
