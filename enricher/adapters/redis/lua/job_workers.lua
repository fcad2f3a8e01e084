-- The workers that are there. KEYS: prefix. Replies name, when it was heard of in ms, what it says of itself, and the
-- order it was given.
local rows = {}
local known = redis.call('ZRANGE', PREFIX .. ':workers', 0, -1, 'WITHSCORES')
for i = 1, #known, 2 do
  local said = redis.call('GET', PREFIX .. ':worker:' .. known[i])
  if said then rows[#rows + 1] = {known[i], known[i + 1], said, redis.call('GET', told_key(known[i])) or ''} end
end
return rows
