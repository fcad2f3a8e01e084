-- After `ack`: acknowledges every entry that ARGV names from `first` on (stream, group, id ...).
local function acknowledge_all(first)
  for i = first, #ARGV, 3 do acknowledge(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
  advance()
end
