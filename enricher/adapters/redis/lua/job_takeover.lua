-- Finds the jobs of workers that went silent. KEYS: prefix. ARGV: lease in ms, deaths that a job may cause, worker
-- that asks ("": none), whether it has lost its connection since it last asked ("1"), how many runs it holds, id and number
-- of each, queues.
-- A death counts against a job only if it was the only one under way there whose worker had gone silent before:
-- nobody else can have been it. Where workers also go silent by no fault of a job, as many more deaths are asked for.
-- Replies how many were found (-1: nobody was looked for), and the runs of those that caused too many.
local lease, deadly, asker, reconnected = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local now, found, poison, suspects, silent, mine = now_ms(), 0, {}, {}, {}, {}
local first = 6 + 2 * ARGV[5]
for i = 6, first - 1, 2 do mine[ARGV[i]] = ARGV[i + 1] end

-- Where the server itself stood still everybody has been silent, and renews first.
local heard = tonumber(redis.call('ZSCORE', PREFIX .. ':workers', asker) or '0')
if asker ~= '' and not reconnected and (now - heard > lease / 2 or redis.call('EXISTS', LATE) == 1) then
  return {-1, {}}
end

local function look_at(queue, entry, worker)
  local read = redis.call('XRANGE', stream_of(queue), entry, entry)[1]
  local id = read and read[2][2]
  local key = id and job_key(id)
  local state, held, run
  if id then state, held, run = fields_of(id, 'state', 'entry', 'run') end
  if not id or state ~= 'running' or held ~= entry then
    drop(queue, entry)
    -- A script that begins jobs was cut off: this one had not begun.
    if state == 'waiting' then append(queue, id) end
    return
  end
  local member = queue .. ' ' .. entry .. ' ' .. id
  if worker == asker and mine[id] == run then
    redis.call('XCLAIM', stream_of(queue), GROUP, worker, 0, entry, 'JUSTID')
    return
  end
  redis.call('XCLAIM', stream_of(queue), GROUP, NOBODY, 0, entry, 'JUSTID')
  if worker == NOBODY then
    redis.call('ZADD', LOST, 'NX', now, member)
    return
  end
  found = found + 1
  if worker == asker then
    -- It began, but the reply was lost: nobody has run it.
    redis.call('ZADD', LOST, now, member)
    return
  end
  local lost = redis.call('HINCRBY', key, 'lost', 1)
  if lost == 1 then redis.call('HSET', key, 'silent', now) end
  silent[worker] = true
  -- 0, 1, 2, 4 leases: those that took a worker with them twice are kept apart.
  local wait = lost > 1 and lease * math.min(2 ^ (lost - 2), 4) or 0
  redis.call('ZADD', LOST, now + wait, member)
  if lost > 1 then
    local others = suspects[worker] or {}
    others[#others + 1] = {id, queue, entry, member}
    suspects[worker] = others
  end
end

for i = first, #ARGV do
  local queue = ARGV[i]
  local stream = stream_of(queue)
  if reconnected then
    for _, row in ipairs(redis.call('XPENDING', stream, GROUP, '-', '+', 1000, asker)) do
      look_at(queue, row[1], row[2])
    end
  else
    for _, row in ipairs(redis.call('XPENDING', stream, GROUP, 'IDLE', lease, '-', '+', 100)) do
      look_at(queue, row[1], row[2])
    end
  end
end

for worker in pairs(silent) do
  if suspects[worker] then redis.call('ZREM', DEATHS, worker) else redis.call('ZADD', DEATHS, now, worker) end
end
redis.call('ZREMRANGEBYSCORE', DEATHS, '-inf', now - 3600000)

for _, others in pairs(suspects) do
  if #others == 1 then
    local id, queue, entry, member = unpack(others[1])
    local key = job_key(id)
    local since = redis.call('HGET', key, 'silent') or now
    local without = redis.call('ZCOUNT', DEATHS, '(' .. since, '+inf')
    if redis.call('HINCRBY', key, 'deaths', 1) >= deadly + without then
      redis.call('ZREM', LOST, member)
      local task, payload, failures, run, enqueued, lost, parent, trace, started = unpack(redis.call(
        'HMGET', key, 'task', 'payload', 'failures', 'run', 'enqueued', 'lost', 'parent', 'trace', 'started'))
      poison[#poison + 1] = {id, task, queue, payload, tonumber(failures or '0') + 1, tonumber(run), entry,
        tonumber(enqueued), tonumber(started), tonumber(lost), parent or '', trace or ''}
    end
  end
end
return {found, poison}
