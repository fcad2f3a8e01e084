-- Appends a message to a stream once per attempt.
-- KEYS: stream, guard, and with a group its place. ARGV: their lifetime (s), fields as a MessagePack list.
-- Replies the id of the entry.
local sent = redis.call('GET', KEYS[2])
if sent then return sent end
sent = redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[2])))
redis.call('SET', KEYS[2], sent, 'EX', ARGV[1])
if KEYS[3] then redis.call('SET', KEYS[3], 'sent', 'EX', ARGV[1]) end
return sent
