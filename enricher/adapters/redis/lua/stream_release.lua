-- Lets the next sweep of anybody have entries of the consumer; comes after `stream_claimed.lua`.
-- KEYS: stream. ARGV: group, consumer, idle time to set (ms), deliveries to take back (0 or 1), ids.
for i = 5, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if held[1] then
    local before = math.max(held[1][4] - tonumber(ARGV[4]), 0)
    claimed(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i],
      'IDLE', ARGV[3], 'RETRYCOUNT', before, 'JUSTID'))
  end
end
