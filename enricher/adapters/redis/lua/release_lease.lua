-- Gives a lease up, if it is the caller's, so that the next one begins at once.
-- KEYS: lease. ARGV: who. Replies 1 if it was.
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
