-- Writes how runs end, each whole or not at all. KEYS: prefix. ARGV: how many finished jobs of a state are kept,
-- for how many ms, whether results are kept here ("1"), then for each: id, run, queue, entry, state, delay in ms,
-- error ("" none), result, its ttl in s, number of children, then ten for each child (see `enqueue`).
-- Replies "" for each that was written, "=" for one whose run is not the job's last, "-" where there is no such job.
local most, kept, here = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local now, replies, at = now_ms(), {}, 4

-- Whoever ends by itself after its workers went silent had no part in that: so somebody else had.
local function acquit(id, deaths)
  for i = 1, tonumber(deaths or '0') do redis.call('ZADD', DEATHS, now, id .. ' ' .. i) end
end

-- What can fail comes first and can be done again; that it is over is written last.
local function finish(children)
  local id, run, queue, entry, state, wait, problem, result, ttl = unpack(ARGV, at, at + 8)
  local key = job_key(id)
  local held, was, unique, limits, lost, failures, newest, cancelling, deaths = fields_of(id, 'run', 'state',
    'unique', 'limits', 'lost', 'failures', 'entry', 'cancelling', 'deaths')
  if not was then return '-' end
  if held ~= run or (was ~= 'running' and was ~= 'waiting') then return '=' end
  drop(queue, entry)
  -- The queue was deleted meanwhile, and the run had got another one.
  if newest and newest ~= entry then drop(queue, newest) end
  if lost then redis.call('ZREM', LOST, queue .. ' ' .. entry .. ' ' .. id) end
  if state == 'succeeded' then
    for child = 0, children - 1 do enqueue(at + 10 + child * REQUEST, now) end
  end
  if state == 'succeeded' or state == 'retrying' then acquit(id, deaths) end
  release_limits(id, limits)
  if here and result ~= '' then show_result(id, result, ttl) end
  if problem ~= '' then redis.call('HSET', key, 'error', problem) end
  redis.call('HDEL', key, 'entry', 'worker')
  if state == 'waiting' then
    append(queue, id)
    redis.call('HSET', key, 'state', 'waiting', 'run', run + 1)
  elseif state == 'retrying' then
    -- One that was cancelled too late for this run begins at once, and ends before it does anything.
    local due = string.format('%d', now + (cancelling and 0 or wait))
    delay(queue, id, due)
    if problem ~= '' then add_failure(key, now, failures, problem) end
    redis.call('HDEL', key, 'lost', 'deaths', 'silent')
    redis.call('HSET', key, 'state', 'retrying', 'run', run + 1, 'failures', (failures or 0) + 1, 'due', due)
  else
    release_unique(id, unique)
    file(id, state, now, most, kept)
    redis.call('HSET', key, 'state', state, 'finished', now)
  end
  return ''
end

while at <= #ARGV do
  local children = tonumber(ARGV[at + 9])
  replies[#replies + 1] = finish(children)
  at = at + 10 + children * REQUEST
end
return replies
