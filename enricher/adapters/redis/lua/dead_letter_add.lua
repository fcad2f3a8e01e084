-- Stores a dead letter once, and acknowledges what it came from.
-- KEYS: list or stream, guard, evicted, expected. ARGV: kind of store ('list' or 'stream'), entry (of a
-- stream: a MessagePack list of names and values), task id, guard's lifetime (s), most entries, acks.
-- Replies the length, how many entries were evicted, and whether the letter was new.
local is_list, most = ARGV[1] == 'list', tonumber(ARGV[5])
local evicted, new = 0, 0
if redis.call('EXISTS', KEYS[2]) == 0 then
  new = 1
  redis.call('SET', KEYS[2], '1', 'XX')  -- sets nothing: whoever may not set it must not add, either
  redis.call('SREM', KEYS[4], '')  -- removes nothing, for the same reason
  if is_list then
    redis.call('LPUSH', KEYS[1], ARGV[2])
  else
    redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(ARGV[2])))
  end
  redis.call('SET', KEYS[2], '1', 'EX', ARGV[4])
  if redis.call('SREM', KEYS[4], ARGV[3]) == 0 then
    if is_list then
      evicted = math.max(redis.call('LLEN', KEYS[1]) - most, 0)
      if evicted > 0 then redis.call('LTRIM', KEYS[1], 0, most - 1) end
    else
      evicted = redis.call('XTRIM', KEYS[1], 'MAXLEN', most)
    end
    if evicted > 0 then redis.call('INCRBY', KEYS[3], evicted) end
  end
end
acknowledge_all(6)
return {redis.call(is_list and 'LLEN' or 'XLEN', KEYS[1]), evicted, new}
