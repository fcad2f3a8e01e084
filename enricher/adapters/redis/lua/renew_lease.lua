-- Keeps a lease. KEYS: lease. ARGV: who, lifetime (ms). Replies 1 if it is still the caller's.
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0
