-- What every script begins with (`scripts.py`).

-- Whether the id `a` of a stream's entry stands before `b`.
local function is_before(a, b)
  local ams, an = string.match(a, '(%d+)-(%d+)')
  local bms, bn = string.match(b, '(%d+)-(%d+)')
  ams, bms = tonumber(ams), tonumber(bms)
  return ams < bms or (ams == bms and tonumber(an) < tonumber(bn))
end

-- A table of a flat list of names and values, from the element `first` (1) on.
local function named(list, first)
  local fields = {}
  for i = first or 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

-- What the reply `groups` to XINFO GROUPS says of `group`; nil if it is not among them.
local function group_info(groups, group)
  for _, fields in ipairs(groups) do
    local info = named(fields)
    if info.name == group then return info end
  end
end

-- The server's own time in milliseconds: the next one who asks may have another clock.
local function now_ms()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
