-- Cancels what waits in a queue. KEYS: prefix. ARGV: queue, how many jobs at most, how many finished jobs are kept,
-- for how many ms, what stands before and after the id in their result ("" for none here), its ttl in s, the ms up to
-- which they began to wait (0: all).
-- Replies how many entries or jobs it has fewer, then the ids of the cancelled jobs.
local queue, count, most, kept, head, tail, ttl, till = unpack(ARGV)
local stream, now, done, cancelled = stream_of(queue), now_ms(), 0, {}

local function cancel(id)
  local key = job_key(id)
  local state, unique, limits = unpack(redis.call('HMGET', key, 'state', 'unique', 'limits'))
  if state ~= 'waiting' then return pass_over(queue) end
  forget_limits(id, queue, limits)
  redis.call('HSET', key, 'state', 'cancelled', 'finished', now)
  release_unique(id, unique)
  file(id, 'cancelled', now, tonumber(most), tonumber(kept))
  cancelled[#cancelled + 1] = id
  if head ~= '' then show_result(id, head .. cjson.encode(id) .. tail, ttl) end
end

local info = redis.call('EXISTS', stream) == 1 and group_info(redis.call('XINFO', 'GROUPS', stream), GROUP)
local from = info and info['last-delivered-id'] or '0-0'
local entries = redis.call('XRANGE', stream, '(' .. from, till == '0' and '+' or till, 'COUNT', count)
local ids = {}
for i, entry in ipairs(entries) do
  cancel(entry[2][2])
  ids[i] = entry[1]
end
done = #ids
if done > 0 then
  -- The group goes past them before they go, so that its lag stays known.
  if info then
    local read = info['entries-read']
    if read then
      redis.call('XGROUP', 'SETID', stream, GROUP, ids[done], 'ENTRIESREAD', read + done)
    else
      redis.call('XGROUP', 'SETID', stream, GROUP, ids[done])
    end
  end
  redis.call('XDEL', stream, unpack(ids))
end
-- As `admitted` places them.
local place = till == '0' and '+inf' or string.format('%.0f', till * 4096 + 4095)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', limited_of(queue), '-inf', place, 'LIMIT', 0, count - done)) do
  cancel(id)
  redis.call('ZREM', limited_of(queue), id)
  done = done + 1
end
return {done, cancelled}
