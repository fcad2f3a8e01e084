-- What every script of the jobs begins with; `jobs/keys.py` lists the keys. KEYS[1] is their prefix.
local PREFIX = KEYS[1]
local GROUP = 'workers'
-- The consumer that holds the entries of workers that went silent until they begin again.
local NOBODY = '-'

local function job_key(id) return PREFIX .. ':job:' .. id end
local function stream_of(queue) return PREFIX .. ':' .. queue end
local function delayed_of(queue) return PREFIX .. ':' .. queue .. ':delayed' end
local function limited_of(queue) return PREFIX .. ':' .. queue .. ':limited' end
-- The order that a worker was given: it begins nothing while it has one.
local function told_key(worker) return PREFIX .. ':control:told:' .. worker end
local function unique_key(key) return PREFIX .. ':unique:' .. key end
-- What is kept of a limit: what runs under it, what waits for a place, the last starts, when the next turn is.
local function limit_key(kind, key) return PREFIX .. ':limit:' .. kind .. ':' .. key end
local LOST, PAUSED = PREFIX .. ':lost', PREFIX .. ':paused'
-- There while some worker has just renewed its leases so late that they may have lapsed.
local LATE = PREFIX .. ':late'
-- Workers that went silent by no fault of a job that is known, by when that was found.
local DEATHS = PREFIX .. ':deaths'

-- Fields of a job; nothing of one whose key somebody has made something else of, which holds up nobody.
local function fields_of(id, ...)
  local found = redis.pcall('HMGET', job_key(id), ...)
  if not found.err then return unpack(found) end
end

-- Adds lines to a field of a job; the last that fit are kept.
local MOST_LINES = 16384
local function add_lines(key, field, lines)
  local text = (redis.call('HGET', key, field) or '') .. lines
  if #text > MOST_LINES then text = string.match(string.sub(text, -MOST_LINES - 1), '\n(.*)$') end
  redis.call('HSET', key, field, text)
end

-- Keeps the error of an attempt that is followed by another.
local function add_failure(key, at, failures, problem)
  local line = string.format('{"at":%d,"attempt":%d,"error":', at, (failures or 0) + 1)
  add_lines(key, 'earlier', line .. problem .. '}\n')
end

local function append(queue, id) return redis.call('XADD', stream_of(queue), '*', 'id', id) end

-- By queue: entries that wait without a job, for it was cancelled or deleted. They stay until somebody reads them:
-- without an entry, a queue's lag would be unknown.
local GONE = PREFIX .. ':control:gone'

-- A job waits no more; what keeps its place in the stream, if it has one there, stays.
local function leave_entry(id, queue)
  if not redis.call('ZSCORE', limited_of(queue), id) and not redis.call('ZSCORE', delayed_of(queue), id) then
    redis.call('HINCRBY', GONE, queue, 1)
  end
end

-- Such an entry was read.
local function pass_over(queue)
  local gone = tonumber(redis.call('HGET', GONE, queue) or '0')
  if gone > 1 then redis.call('HINCRBY', GONE, queue, -1) elseif gone == 1 then redis.call('HDEL', GONE, queue) end
end

local function drop(queue, entry)
  redis.call('XACK', stream_of(queue), GROUP, entry)
  redis.call('XDEL', stream_of(queue), entry)
end

-- Keeps a delayed job, and tells the workers if it is the first that will be due.
local function delay(queue, id, due)
  local key = delayed_of(queue)
  redis.call('ZADD', key, due, id)
  if redis.call('ZRANGE', key, 0, 0)[1] == id then
    redis.call('PUBLISH', PREFIX .. ':control', 'due ' .. due)
  end
end

-- Who holds a unique key instead of `id`; false if it is for `id` from now on.
local function other_holder(id, key, lasts, ttl)
  local name = unique_key(key)
  local holder = redis.call('GET', name)
  if holder and holder ~= id and (lasts == 'time' or redis.call('EXISTS', job_key(holder)) == 1) then
    return holder
  end
  if lasts == 'time' then redis.call('SET', name, id, 'PX', ttl) else redis.call('SET', name, id) end
  return false
end

local function release_unique(id, key)
  if key and redis.call('GET', unique_key(key)) == id then redis.call('DEL', unique_key(key)) end
end

-- Limits of a job are kept as text: a line `most rate per_ms key` each.
local LIMIT = '(%d+) (%d+) (%d+) ([^\n]*)\n'

-- The first that waits for a place goes to its queue; those that do not wait any more are passed over.
local function let_in(key)
  local next = redis.call('ZPOPMIN', limit_key('waiting', key))[1]
  while next do
    local state, queue = fields_of(next, 'state', 'queue')
    if queue then redis.call('ZREM', limited_of(queue), next) end
    if state == 'waiting' then return append(queue, next) end
    next = redis.call('ZPOPMIN', limit_key('waiting', key))[1]
  end
end

-- What ran under a limit ends.
local function release_limits(id, limits)
  for most, _, _, key in string.gmatch(limits or '', LIMIT) do
    if most ~= '0' and redis.call('ZREM', limit_key('running', key), id) == 1 then let_in(key) end
  end
end

-- A job that waits under limits does so no more. It may have been let in and not have begun: the next is.
local function forget_limits(id, queue, limits)
  for most, _, _, key in string.gmatch(limits or '', LIMIT) do
    if most ~= '0' then
      redis.call('ZREM', limit_key('running', key), id)
      redis.call('ZREM', limit_key('waiting', key), id)
      if redis.call('ZCARD', limit_key('running', key)) < tonumber(most) then let_in(key) end
    end
  end
  if limits then redis.call('ZREM', limited_of(queue), id) end
end

-- Whether there is a place; one of a job that does not run, for somebody has removed it, is none.
local function has_place(key, id, most)
  if redis.call('ZCARD', key) < most or redis.call('ZSCORE', key, id) then return true end
  local oldest = redis.call('ZRANGE', key, 0, 0)[1]
  return fields_of(oldest, 'state') ~= 'running' and redis.call('ZREM', key, oldest) == 1
end

-- Whether a job may begin now under its limits. If not it is put where it comes from when it may.
local function admitted(id, queue, entry, limits, now)
  for most, rate, per, key in string.gmatch(limits, LIMIT) do
    local running = limit_key('running', key)
    if most ~= '0' and not has_place(running, id, tonumber(most)) then
      -- In the order of their entries.
      local ms, seq = string.match(entry, '(%d+)-(%d+)')
      local place = string.format('%.0f', ms * 4096 + math.min(seq, 4095))
      redis.call('ZADD', limit_key('waiting', key), place, id)
      redis.call('ZADD', limited_of(queue), place, id)
      return false
    end
    if rate ~= '0' then
      -- The last starts are known, so that no span of `per` ms ever has more. Whoever comes too early gets a turn
      -- behind those that have one; turns are spread evenly. Who comes late for its turn keeps its place, unless
      -- all were missed: then it gets a new one.
      local starts, turns = limit_key('starts', key), limit_key('turn', key)
      local most_starts, span = tonumber(rate), tonumber(per)
      local before = redis.call('LINDEX', starts, -most_starts)
      local turn = before and tonumber(before) + span or now
      local mine = tonumber(redis.call('HGET', job_key(id), 'turn') or '')
      if not mine or now - mine > span then
        mine = nil
        turn = math.max(turn, tonumber(redis.call('GET', turns) or '0'))
      end
      if turn > now then
        if not mine then
          local after = turn + span / most_starts
          redis.call('SET', turns, string.format('%.3f', after), 'PX', math.ceil(after - now))
          redis.call('HSET', job_key(id), 'turn', string.format('%.3f', turn))
        end
        delay(queue, id, string.format('%d', math.ceil(turn)))
        return false
      end
      redis.call('HDEL', job_key(id), 'turn')
      redis.call('RPUSH', starts, string.format('%d', now))
      redis.call('LTRIM', starts, -most_starts, -1)
      redis.call('PEXPIRE', starts, span)
    end
  end
  for most, _, _, key in string.gmatch(limits, LIMIT) do
    if most ~= '0' then redis.call('ZADD', limit_key('running', key), now, id) end
  end
  return true
end

-- How many elements of a script's arguments one request takes (see `enqueue`).
local REQUEST = 11

-- Keeps the job that is described from ARGV[at] on: id, task, queue, payload, due ("" now, "at MS", "in MS"),
-- unique key ("" none), until, its ttl in ms, limits, parent, trace. Returns its id, or that of who holds its unique
-- key.
local function enqueue(at, now)
  local id, task, queue, payload, due, unique, lasts, ttl, limits, parent, trace =
    unpack(ARGV, at, at + REQUEST - 1)
  local key = job_key(id)
  -- The same id again is the same request again: its reply was lost.
  if redis.call('EXISTS', key) == 1 then return id end
  local holder = unique ~= '' and other_holder(id, unique, lasts, ttl)
  if holder then return holder end
  redis.call('SADD', PREFIX .. ':queues', queue)
  local how, ms = string.match(due, '(%a+) (%d+)')
  ms = how and tonumber(ms) + (how == 'in' and now or 0)
  local fields = {'queue', queue, 'task', task, 'payload', payload, 'enqueued', now}
  if unique ~= '' then fields[#fields + 1] = 'unique'; fields[#fields + 1] = unique
    fields[#fields + 1] = 'until'; fields[#fields + 1] = lasts end
  if limits ~= '' then fields[#fields + 1] = 'limits'; fields[#fields + 1] = limits end
  if parent ~= '' then fields[#fields + 1] = 'parent'; fields[#fields + 1] = parent end
  if trace ~= '' then fields[#fields + 1] = 'trace'; fields[#fields + 1] = trace end
  if ms and ms > now then
    redis.call('HSET', key, 'state', 'scheduled', 'due', string.format('%d', ms), unpack(fields))
    delay(queue, id, string.format('%d', ms))
  else
    redis.call('HSET', key, 'state', 'waiting', unpack(fields))
    append(queue, id)
  end
  return id
end

local function show_result(id, result, ttl)
  redis.call('SET', 'celery-task-meta-' .. id, result, 'EX', ttl)
  redis.call('PUBLISH', 'celery-task-meta-' .. id, result)
end

-- Files a finished job for `kept` ms, among the `most` newest of its state. Not to be able to is no reason to stop.
local function file(id, state, now, most, kept)
  local index = PREFIX .. ':finished:' .. state
  redis.call('PEXPIRE', job_key(id), kept)
  if type(redis.pcall('ZADD', index, now, id)) == 'table' then return end
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - kept)
  local more = redis.call('ZCARD', index) - most
  if more > 0 then
    local gone = redis.call('ZPOPMIN', index, more)
    for i = 1, #gone, 2 do redis.call('UNLINK', job_key(gone[i])) end
  end
end
