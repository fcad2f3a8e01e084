-- A page of the jobs of a state. KEYS: prefix. ARGV: state, queue, where to go on ("" at the beginning), how many
-- jobs to look at, bytes of arguments after which a page is full.
-- Replies where the next page begins ("": nowhere), then for each job its id and FIELDS.
local state, queue, after, count, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local FIELDS = {'state', 'task', 'queue', 'payload', 'failures', 'lost', 'enqueued', 'due', 'started', 'finished',
  'worker', 'error', 'progress', 'parent', 'cancelling'}
local rows, bytes = {''}, 0

-- Adds a job if it is one of those; whether there is room for another.
local function add(id)
  local row = redis.call('HMGET', job_key(id), unpack(FIELDS))
  if row[1] == state and (queue == '' or row[3] == queue) then
    for _, value in ipairs({4, 12, 13}) do bytes = bytes + #(row[value] or '') end
    table.insert(row, 1, id)
    rows[#rows + 1] = row
  end
  return bytes < most
end

-- Pages of a sorted set. Where to go on is a score, and the members of this score that were seen.
local function by_score(key, newest_first, name)
  local seen, from, number = {}, nil, 0
  for word in string.gmatch(after, '%S+') do
    if from then seen[word] = true; number = number + 1 else from = word end
  end
  local command, first, last = 'ZRANGEBYSCORE', '-inf', '+inf'
  if newest_first then command, first, last = 'ZREVRANGEBYSCORE', '+inf', '-inf' end
  local found = redis.call(command, key, from or first, last, 'WITHSCORES', 'LIMIT', 0, count + number)
  local more = #found == 2 * (count + number)
  for i = 1, #found, 2 do
    local id, score = found[i], found[i + 1]
    if score ~= from then seen, from = {}, score end
    if not seen[id] then
      seen[id] = true
      if not add(id) and i < #found - 1 then more = true; break end
    end
  end
  if not more then return false end
  local words = {name, from}
  for id in pairs(seen) do words[#words + 1] = id end
  rows[1] = table.concat(words, ' ')
  return true
end

-- Pages of a stream: `name` and the last entry that was seen.
local function by_entry(entries, id_of, name)
  for i, entry in ipairs(entries) do
    local id = id_of(entry)
    local room = not id or add(id)
    if i == count or not room then
      rows[1] = name .. ' ' .. entry[1]
      return true
    end
  end
  return false
end

local place
place, after = string.match(after, '^(%S+) ?(.*)$')
after = after or ''
local stream, info = stream_of(queue), nil

if state == 'running' or state == 'waiting' then
  info = redis.call('EXISTS', stream) == 1 and group_info(redis.call('XINFO', 'GROUPS', stream), GROUP)
end
if state == 'running' then
  local pending = info and redis.call('XPENDING', stream, GROUP, after == '' and '-' or '(' .. after, '+', count) or {}
  by_entry(pending, function(row)
    local entry = redis.call('XRANGE', stream, row[1], row[1])[1]
    return entry and entry[2][2]
  end, 'run')
elseif state == 'waiting' then
  local more = false
  if not place or place == 'stream' then
    if after == '' then after = info and info['last-delivered-id'] or '0-0' end
    local entries = redis.call('XRANGE', stream, '(' .. after, '+', 'COUNT', count)
    more = by_entry(entries, function(entry) return entry[2][2] end, 'stream')
    after = ''
  end
  -- What a limit holds back is not in the stream.
  if not more and (not place or place ~= 'delayed') then
    more = by_score(limited_of(queue), false, 'limited')
    after = ''
  end
  if not more then by_score(delayed_of(queue), false, 'delayed') end
elseif state == 'scheduled' or state == 'retrying' then
  by_score(delayed_of(queue), false, 'delayed')
else
  by_score(PREFIX .. ':finished:' .. state, true, 'finished')
end
return rows
