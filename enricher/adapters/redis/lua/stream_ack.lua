-- Acknowledges entries that need no commit; comes after `ack.lua`.
-- KEYS: stream. ARGV: group, ids.
for i = 2, #ARGV do acknowledge(KEYS[1], ARGV[1], ARGV[i]) end
advance()
