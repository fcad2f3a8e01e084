-- Finds the jobs of workers that went silent. KEYS: prefix. ARGV: lease in ms, deaths that a job may cause, queues.
-- A death counts against a job only if it was the only one under way there whose worker had gone silent before:
-- nobody else can have been it. Replies how many were found, and the runs of those that caused too many.
local lease, deadly = tonumber(ARGV[1]), tonumber(ARGV[2])
local now, found, poison, suspects = now_ms(), 0, {}, {}

for i = 3, #ARGV do
  local queue = ARGV[i]
  local pending = redis.call('XPENDING', stream_of(queue), GROUP, 'IDLE', lease, '-', '+', 100)
  for _, row in ipairs(pending) do
    local entry, worker = row[1], row[2]
    local read = redis.call('XRANGE', stream_of(queue), entry, entry)[1]
    local id = read and read[2][2]
    local key = id and job_key(id)
    local state, held = unpack(key and redis.call('HMGET', key, 'state', 'entry') or {})
    if not id or state ~= 'running' or held ~= entry then
      drop(queue, entry)
    else
      local member = queue .. ' ' .. entry .. ' ' .. id
      redis.call('XCLAIM', stream_of(queue), GROUP, NOBODY, 0, entry, 'JUSTID')
      if worker == NOBODY then
        redis.call('ZADD', LOST, 'NX', now, member)
      else
        found = found + 1
        local lost = redis.call('HINCRBY', key, 'lost', 1)
        -- 0, 1, 2, 4 leases: those that took a worker with them twice are kept apart.
        local wait = lost > 1 and lease * math.min(2 ^ (lost - 2), 4) or 0
        redis.call('ZADD', LOST, now + wait, member)
        if lost > 1 then
          local others = suspects[worker] or {}
          others[#others + 1] = {id, queue, entry, member}
          suspects[worker] = others
        end
      end
    end
  end
end

for _, others in pairs(suspects) do
  if #others == 1 then
    local id, queue, entry, member = unpack(others[1])
    local key = job_key(id)
    if redis.call('HINCRBY', key, 'deaths', 1) >= deadly then
      redis.call('ZREM', LOST, member)
      local task, payload, failures, run, enqueued, lost, parent, started = unpack(redis.call(
        'HMGET', key, 'task', 'payload', 'failures', 'run', 'enqueued', 'lost', 'parent', 'started'))
      poison[#poison + 1] = {id, task, queue, payload, tonumber(failures or '0') + 1, tonumber(run), entry,
        tonumber(enqueued), tonumber(started), tonumber(lost), parent or ''}
    end
  end
end
return {found, poison}
