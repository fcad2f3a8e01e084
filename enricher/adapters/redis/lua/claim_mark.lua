-- KEYS: set of claims. ARGV: claim, lifetime (s). Replies 1 if it is new.
local new = redis.call('SADD', KEYS[1], ARGV[1])
if new == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return new
