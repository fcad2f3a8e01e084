-- How many finished jobs are kept and how fast they come in. KEYS: prefix. ARGV: how many to look at, for how many
-- ms to look back, states.
-- Replies the time, the number of each state, then for each state and queue: state, queue, jobs, in how many ms.
local sample, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms()
local kept, rows = {}, {}
for i = 3, #ARGV do
  local index = PREFIX .. ':finished:' .. ARGV[i]
  kept[#kept + 1] = redis.call('ZCARD', index)
  local newest = redis.call('ZREVRANGEBYSCORE', index, '+inf', now - window, 'WITHSCORES', 'LIMIT', 0, sample)
  local counts, span = {}, window
  if #newest == 2 * sample then span = math.max(now - newest[#newest], 1) end
  for at = 1, #newest, 2 do
    local queue = redis.call('HGET', job_key(newest[at]), 'queue')
    if queue then counts[queue] = (counts[queue] or 0) + 1 end
  end
  for queue, number in pairs(counts) do rows[#rows + 1] = {ARGV[i], queue, number, span} end
end
return {now, kept, rows}
