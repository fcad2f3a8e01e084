-- Takes or renews the lock of a shard.
-- KEYS: lease, fence. ARGV: who, lease (ms), the number held (0: none).
-- Replies the number, and "" or who else holds the shard. Numbers grow with the clock too, so that they do even
-- after the server has lost everything.
local holder, number = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {'0', holder} end
if ARGV[3] ~= '0' and number and number ~= ARGV[3] then return {'0', ''} end
if not holder or not number then
  if ARGV[3] == '0' or not number then
    local now = redis.call('TIME')
    local clock = now[1] * 1000000 + now[2]
    number = string.format('%.0f', math.max(tonumber(number or '0') + 1, clock))
    redis.call('SET', KEYS[2], number)
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {number, ''}
