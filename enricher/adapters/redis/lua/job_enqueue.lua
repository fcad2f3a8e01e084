-- Keeps jobs. KEYS: prefix. ARGV: ten for each request, see `enqueue`. Replies their ids.
local now, ids = now_ms(), {}
for at = 1, #ARGV, REQUEST do ids[#ids + 1] = enqueue(at, now) end
return ids
