-- Looks many identities up and reserves those that nobody has.
-- KEYS: old set, sets of claims, newest first, a reservation per identity. ARGV: number of sets, then per
-- identity its claim, token ('' reserves nothing), lease (ms), how many names it has in the old set, and
-- these. Replies per identity the key in which the claim is and the member there; '' if it is the caller's
-- now; the time (ms) for which somebody else has it; or what is wrong with its reservation.
local sets = tonumber(ARGV[1])
local asked, claims, names = {}, {}, {}
local at = 2
while at <= #ARGV do
  local each = {token = ARGV[at + 1], lease = ARGV[at + 2], first = #names + 1}
  asked[#asked + 1], claims[#claims + 1] = each, ARGV[at]
  local last = at + 3 + tonumber(ARGV[at + 3])
  for i = at + 4, last do names[#names + 1] = ARGV[i] end
  each.last = #names
  at = last + 1
end
local replies = {}
for i = 2, sets + 1 do
  for number, held in ipairs(redis.call('SMISMEMBER', KEYS[i], unpack(claims))) do
    if held == 1 and not replies[number] then replies[number] = {KEYS[i], claims[number]} end
  end
end
local old = redis.pcall('SMISMEMBER', KEYS[1], unpack(names))
if old.err and not string.find(old.err, '^WRONGTYPE') then return old end
for number, each in ipairs(asked) do
  for i = each.first, each.last do
    if not replies[number] and old[i] == 1 then replies[number] = {KEYS[1], names[i]} end
  end
  if not replies[number] then
    local key = KEYS[sets + 1 + number]
    replies[number] = ''
    if each.token ~= '' and not redis.call('SET', key, each.token, 'NX', 'PX', each.lease) then
      local holder = redis.pcall('GET', key)
      if type(holder) == 'table' then replies[number] = holder
      elseif holder ~= each.token then replies[number] = redis.call('PTTL', key) end
    end
  end
end
return replies
