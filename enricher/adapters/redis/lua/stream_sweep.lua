-- Takes over, without counting it as a delivery, what nobody has renewed for a lease.
-- KEYS: stream. ARGV: group, consumer, lease (ms), where to go on, how many.
-- Replies where to go on, [id, deliveries] of what was taken over, ids that the stream has lost.
local found = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4],
  'COUNT', ARGV[5], 'JUSTID')
local taken = {}
for _, id in ipairs(found[2]) do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  taken[#taken + 1] = {id, held[1][4]}
end
local lost = found[3] or {}
if #lost > 0 then
  -- Whoever has one of them in memory may finish it, and then it was not lost (`ack.lua`).
  local group = KEYS[1] .. ':' .. ARGV[1]
  redis.call('HINCRBY', group .. ':ledger', 'done', #lost)
  redis.call('HINCRBY', group .. ':ledger', 'lost', redis.call('SADD', group .. ':gone', unpack(lost)))
  redis.call('EXPIRE', group .. ':gone', 86400)
end
return {found[1], taken, lost}
