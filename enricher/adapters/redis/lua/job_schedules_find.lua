-- Where schedules stand; see `FindSchedules`. KEYS: prefix. ARGV: tasks. Replies the time, then since and ran
-- of each (ms), 0 for a task that is not known, and whether it is paused.
local reply = {now_ms()}
for _, task in ipairs(ARGV) do
  local known = redis.call('HGET', PREFIX .. ':schedules', task)
  local since, ran = string.match(known or '0 0', '^(%d+) (%d+)')
  reply[#reply + 1] = tonumber(since)
  reply[#reply + 1] = tonumber(ran)
  reply[#reply + 1] = redis.call('SISMEMBER', PREFIX .. ':schedules:paused', task)
end
return reply
