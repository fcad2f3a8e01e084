-- Knows schedules; see `KeepSchedules`. KEYS: prefix. ARGV: how many packages, the packages, then task, module
-- and expression of each schedule. The hash says of each task: since, ran (ms), module, expression.
local SCHEDULES = PREFIX .. ':schedules'
local now = now_ms()
local first = tonumber(ARGV[1]) + 2
local kept = {}
for i = first, #ARGV, 3 do
  local task, module, expression = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local ran, rule = string.match(redis.call('HGET', SCHEDULES, task) or '', '^%d+ (%d+) %S+ (.*)$')
  if rule ~= expression then
    redis.call('HSET', SCHEDULES, task, string.format('%d %s %s %s', now, ran or '0', module, expression))
  end
  kept[task] = true
end
local all = first > 2 and redis.call('HGETALL', SCHEDULES) or {}
for i = 1, #all, 2 do
  local module = string.match(all[i + 1], '^%d+ %d+ (%S+)') .. '.'
  for j = 2, first - 1 do
    local package = ARGV[j] .. '.'
    if not kept[all[i]] and string.sub(module, 1, #package) == package then
      redis.call('HDEL', SCHEDULES, all[i])
    end
  end
end
