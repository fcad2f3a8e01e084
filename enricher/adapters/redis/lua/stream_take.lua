-- Delivers entries that wait for the consumer, each as the delivery of the number given.
-- KEYS: stream, the exposed. ARGV: group, consumer, what they are exposed to (0: nothing), for how many seconds
-- that is known, ids and numbers of deliveries.
-- Replies for each the fields; nothing if it is somebody else's; 0 if the stream has lost it: it waits no more.
local replies = {}
for i = 5, #ARGV, 2 do
  local id, reply = ARGV[i], false
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
    local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', ARGV[i + 1])
    if entry[1] then
      reply = entry[1][2]
      if ARGV[3] ~= '0' then redis.call('HSET', KEYS[2], id, ARGV[3]) end
    else
      redis.call('XACK', KEYS[1], ARGV[1], id)
      -- As in `stream_sweep`: whoever has it in memory may finish it.
      local group = KEYS[1] .. ':' .. ARGV[1]
      redis.call('HINCRBY', group .. ':ledger', 'done', 1)
      redis.call('HINCRBY', group .. ':ledger', 'lost', redis.call('SADD', group .. ':gone', id))
      redis.call('EXPIRE', group .. ':gone', 86400)
      reply = 0
    end
  end
  replies[#replies + 1] = reply
end
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[2], ARGV[4]) end
return replies
