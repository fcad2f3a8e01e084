-- Renews the leases of those entries that are still the consumer's; comes after `stream_claimed.lua`.
-- KEYS: stream. ARGV: group, consumer, ids. Replies the ids that are somebody else's now.
local gone = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 0 then
    gone[#gone + 1] = ARGV[i]
  else
    claimed(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID'))
  end
end
return gone
