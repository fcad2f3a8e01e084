-- Cancels a job: at once where it waits, by telling its worker where it runs. KEYS: prefix. ARGV: id, how many
-- finished jobs are kept, for how many ms, result ("" for one that runs or is finished), its ttl in s.
-- Replies the state that it was in, false if there is no such job.
local id, now = ARGV[1], now_ms()
local key = job_key(id)
local state, queue, unique, limits = unpack(redis.call('HMGET', key, 'state', 'queue', 'unique', 'limits'))
if state == 'running' then
  redis.call('HSET', key, 'cancelling', 1)
  redis.call('PUBLISH', PREFIX .. ':control', 'cancel ' .. id)
elseif state == 'waiting' or state == 'scheduled' or state == 'retrying' then
  if state == 'waiting' then leave_entry(id, queue) end
  redis.call('ZREM', delayed_of(queue), id)
  forget_limits(id, queue, limits)
  redis.call('HSET', key, 'state', 'cancelled', 'finished', now)
  release_unique(id, unique)
  file(id, 'cancelled', now, tonumber(ARGV[2]), tonumber(ARGV[3]))
  if ARGV[4] ~= '' then show_result(id, ARGV[4], ARGV[5]) end
end
return state
