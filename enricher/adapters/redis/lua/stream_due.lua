-- Moves what is due from the delay set to the stream on which it comes back.
-- KEYS: delay set, stream, list of what cannot be read. ARGV: how many, what the keys of places begin with.
-- Replies how many were due.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
if #due > 0 then redis.call('ZREM', KEYS[1], '') end  -- who may not remove must not move, either
for _, entry in ipairs(due) do
  local fine, fields = pcall(cmsgpack.unpack, entry)
  if fine and type(fields) == 'table' and #fields > 0 and #fields % 2 == 0 then
    local id = redis.call('XADD', KEYS[2], '*', unpack(fields))
    for i = 1, #fields, 2 do
      if fields[i] == 'enricher-id' then
        redis.call('SET', ARGV[2] .. fields[i + 1], id, 'XX', 'EX', 86400)
      end
    end
  else
    redis.call('RPUSH', KEYS[3], entry)
  end
  redis.call('ZREM', KEYS[1], entry)
end
return #due
