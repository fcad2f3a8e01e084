-- KEYS: stream, stream of the new entry (may be the same). ARGV: id, id of the twin (or empty), the new
-- entry: a MessagePack list of names and values. Replies its id; nothing if the old one is not there.
redis.call('XDEL', KEYS[1], '0-0')  -- removes nothing: whoever may not remove it must not add, either
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return false end
local added = redis.call('XADD', KEYS[2], '*', unpack(cmsgpack.unpack(ARGV[3])))
redis.call('XDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('XDEL', KEYS[1], ARGV[2]) end
return added
