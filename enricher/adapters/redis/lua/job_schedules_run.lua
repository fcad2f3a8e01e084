-- Enqueues occurrences; see `RunOccurrences`. KEYS: prefix. ARGV: due (ms) and the request of each. Replies how
-- many were news. That one has run is written with its job, so that a kill between two loses and doubles none.
-- Those of a paused schedule pass without a job.
local SCHEDULES = PREFIX .. ':schedules'
local now, news = now_ms(), 0
for i = 1, #ARGV, REQUEST + 1 do
  local due, task = ARGV[i], ARGV[i + 2]
  local since, ran, rest = string.match(redis.call('HGET', SCHEDULES, task) or '', '^(%d+) (%d+) (.*)$')
  if since and tonumber(due) > tonumber(since) then
    if redis.call('SISMEMBER', SCHEDULES .. ':paused', task) == 1 then
      redis.call('HSET', SCHEDULES, task, due .. ' ' .. ran .. ' ' .. rest)
    else
      enqueue(i + 1, now)
      redis.call('HSET', SCHEDULES, task, due .. ' ' .. due .. ' ' .. rest)
      news = news + 1
    end
  end
end
return news
