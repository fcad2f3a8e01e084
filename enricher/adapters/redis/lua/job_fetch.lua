-- Begins what a worker has free slots for. KEYS: prefix. ARGV: worker, free slots, how many of them may be for
-- jobs whose worker went silent, whether such a job may begin that has to be alone ("1"), for how many seconds
-- STARTED is shown as a result (0: not here), then queue and share of each queue in order of priority.
-- Replies the runs, the ms until the next delayed job is due (-1: none), and the newest entry of each queue.
local worker, free, suspects, may_be_alone, shown =
  ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local now = now_ms()
local runs, open = {}, {}

-- Begins the job of an entry that is this worker's; false if there is nothing to begin.
local function begin(queue, entry, id, again)
  local key = job_key(id)
  local state, task, payload, failures, run, enqueued, lost, unique, lasts, limits, parent, trace, held,
    cancelling, holder = fields_of(id, 'state', 'task', 'payload', 'failures', 'run', 'enqueued', 'lost', 'unique', 'until',
      'limits', 'parent', 'trace', 'entry', 'cancelling', 'worker')
  if state == 'running' and held == entry and not again then
    -- It was read before: somebody has made the group anew. It stays whose it is.
    redis.call('XCLAIM', stream_of(queue), GROUP, holder or NOBODY, 0, entry, 'JUSTID')
    return false
  end
  -- Cancelled or deleted meanwhile, or there twice: the entry has no job to begin.
  if not (state == 'waiting' or (state == 'running' and again and held == entry)) or not (task and payload) then
    drop(queue, entry)
    if not again then pass_over(queue) end
    return false
  end
  if limits and not admitted(id, queue, entry, limits, now) then
    drop(queue, entry)
    redis.call('HSET', key, 'state', 'waiting')
    return false
  end
  local number = (tonumber(run) or 0) + 1
  redis.call('HSET', key, 'state', 'running', 'worker', worker, 'run', number, 'started', now, 'entry', entry)
  if lasts == 'started' then release_unique(id, unique) end
  if shown > 0 then
    local head = '{"status":"STARTED","result":null,"traceback":null,"children":[],"task_id":'
    show_result(id, head .. cjson.encode(id) .. '}', shown)
  end
  runs[#runs + 1] = {id, task, queue, payload, (tonumber(failures) or 0) + 1, number, entry,
    tonumber(enqueued) or now, now, tonumber(lost) or 0, parent or '', trace or '', cancelling and 1 or 0}
  return true
end

local function move_due(queue)
  local ids = redis.call('ZRANGEBYSCORE', delayed_of(queue), '-inf', now, 'LIMIT', 0, 100)
  for _, id in ipairs(ids) do
    redis.call('ZREM', delayed_of(queue), id)
    local state = fields_of(id, 'state')
    if state == 'scheduled' or state == 'retrying' or state == 'waiting' then
      redis.call('HSET', job_key(id), 'state', 'waiting')
      append(queue, id)
    end
  end
end

-- The job of a lost entry begins; false if it has ended, or has no entry any more.
local function begin_lost(queue, entry, id)
  if #redis.call('XCLAIM', stream_of(queue), GROUP, worker, 0, entry, 'JUSTID') == 1 then
    return begin(queue, entry, id, true)
  end
  local state, held = fields_of(id, 'state', 'entry')
  if state == 'running' and held == entry then
    -- The queue was deleted with its entries.
    redis.call('HSET', job_key(id), 'state', 'waiting')
    append(queue, id)
  end
  return false
end

-- Those whose worker went silent, oldest first.
local function begin_again()
  local from = 0
  while suspects > 0 do
    local members = redis.call('ZRANGEBYSCORE', LOST, '-inf', now, 'LIMIT', from, 100)
    for _, member in ipairs(members) do
      local queue, entry, id = string.match(member, '^(%S+) (%S+) (.+)$')
      local alone = (tonumber(fields_of(id, 'lost') or '') or 0) > 1
      if open[queue] and (may_be_alone or not alone) then
        redis.call('ZREM', LOST, member)
        if begin_lost(queue, entry, id) then
          may_be_alone, suspects = false, suspects - 1
          if alone or suspects <= 0 or #runs >= free then return end
        end
      else
        from = from + 1
      end
    end
    if #members < 100 then return end
  end
end

-- Entries without a job to begin (cancelled, deleted, held back by a limit) that are passed over in one go: more
-- would hold up everybody.
local in_vain = 1000

local function read(queue, share)
  local first = #runs
  while #runs - first < share and in_vain > 0 do
    local reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', share - (#runs - first), 'STREAMS',
      stream_of(queue), '>')
    if not reply then return end
    for _, entry in ipairs(reply[1][2]) do
      if not begin(queue, entry[1], entry[2][2]) then in_vain = in_vain - 1 end
    end
  end
end

local queues, told = {}, redis.call('EXISTS', told_key(worker)) == 1
for i = 6, #ARGV, 2 do
  local queue = ARGV[i]
  queues[#queues + 1] = {queue, tonumber(ARGV[i + 1])}
  open[queue] = not told and redis.call('SISMEMBER', PAUSED, queue) == 0
  if open[queue] then move_due(queue) end
end
begin_again()
for _, each in ipairs(queues) do
  if open[each[1]] then read(each[1], math.min(each[2], free - #runs)) end
end
for _, each in ipairs(queues) do
  if open[each[1]] then read(each[1], free - #runs) end
end
local wait, newest = in_vain > 0 and -1 or 0, {}
local function sooner(due)
  if due and (wait < 0 or due - now < wait) then wait = math.max(due - now, 0) end
end
for _, each in ipairs(queues) do
  local last = redis.call('XREVRANGE', stream_of(each[1]), '+', '-', 'COUNT', 1)[1]
  newest[#newest + 1] = each[1]
  newest[#newest + 1] = last and last[1] or '0-0'
  if open[each[1]] then
    sooner(tonumber(redis.call('ZRANGE', delayed_of(each[1]), 0, 0, 'WITHSCORES')[2]))
  end
end
if suspects > 0 then sooner(tonumber(redis.call('ZRANGE', LOST, 0, 0, 'WITHSCORES')[2])) end
return {runs, wait, newest}
