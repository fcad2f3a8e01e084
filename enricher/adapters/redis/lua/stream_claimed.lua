-- What the scripts that claim entries have in common.

-- Counts an entry in the ledger that XCLAIM gave no `ids` for: what the stream has lost is pending no more once
-- it is claimed. Whoever has it in memory may finish it.
local function claimed(ids)
  if #ids == 0 then redis.call('HINCRBY', KEYS[1] .. ':' .. ARGV[1] .. ':ledger', 'done', 1) end
end
