-- Removes consumers without entries.
-- KEYS: stream. ARGV: group, consumer, idle time (ms) after which one has left; 0: the consumer leaves, now.
-- Replies how many were removed.
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local other = named(fields)
  local left = other.idle >= tonumber(ARGV[3]) and other.name ~= ARGV[2]
  if ARGV[3] == '0' then left = other.name == ARGV[2] end
  if left and other.pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], other.name)
    removed = removed + 1
  end
end
return removed
