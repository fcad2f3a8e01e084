-- Enqueues occurrences; see `RunOccurrences`. KEYS: prefix. ARGV: due (ms) and the request of each. Replies how
-- many were news. That one has run is written with its job, so that a kill between two loses and doubles none.
local SCHEDULES = PREFIX .. ':schedules'
local now, news = now_ms(), 0
for i = 1, #ARGV, REQUEST + 1 do
  local due, task = ARGV[i], ARGV[i + 2]
  local since, rest = string.match(redis.call('HGET', SCHEDULES, task) or '', '^(%d+) %d+ (.*)$')
  if since and tonumber(due) > tonumber(since) then
    enqueue(i + 1, now)
    redis.call('HSET', SCHEDULES, task, due .. ' ' .. due .. ' ' .. rest)
    news = news + 1
  end
end
return news
