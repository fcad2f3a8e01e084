-- Pauses a schedule, or lets it go on from now. KEYS: prefix. ARGV: task, "1" to pause. Replies 1 if that was news.
local SCHEDULES = PREFIX .. ':schedules'
local task, pause = ARGV[1], ARGV[2] == '1'
local news = redis.call(pause and 'SADD' or 'SREM', SCHEDULES .. ':paused', task)
local rest = string.match(redis.call('HGET', SCHEDULES, task) or '', '^%d+ (.*)$')
-- What was due meanwhile is not made up for, whether a scheduler was there or not.
if rest and not pause and news == 1 then
  redis.call('HSET', SCHEDULES, task, string.format('%d %s', now_ms(), rest))
end
return news
