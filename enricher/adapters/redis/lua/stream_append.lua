-- Appends a batch of messages, if the caller has the lease, and renews the lease.
-- KEYS: stream, lease, number of the last batch, when its last message was received, since when the lease waits
-- for somebody better. ARGV: who, lease (ms), number (0: the lease alone), longest stream (0: any), when the
-- first message was heard (0: never mind), then topic, at and body of each message.
-- Replies the id of the last entry of the batch ("0-0" if there is no batch), or "" if somebody else has the
-- lease or should, and when the last message that was appended had been received ("0" if nobody knows).
local holder, at = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[4]) or '0'
if holder and holder ~= ARGV[1] then return {'', at} end
if not holder then
  -- One that heard nothing before the last message that was appended may lack what came after it. Whoever
  -- was there before gets a chance to ask.
  if at ~= '0' and tonumber(ARGV[5]) > tonumber(at) then
    local now = now_ms()
    redis.call('SET', KEYS[5], now, 'PX', ARGV[2] * 3, 'NX')
    if now - redis.call('GET', KEYS[5]) < ARGV[2] / 2 then return {'', at} end
  end
  redis.call('DEL', KEYS[5])
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
if ARGV[3] == '0' then return {'0-0', '0'} end
local mark = ARGV[1] .. ' ' .. ARGV[3] .. ' '
local last = redis.call('GET', KEYS[3])
if last and string.sub(last, 1, #mark) == mark then return {string.sub(last, #mark + 1), '0'} end
for i = 6, #ARGV, 3 do
  local fields = {'topic', ARGV[i], 'at', ARGV[i + 1], 'body', ARGV[i + 2]}
  if ARGV[4] == '0' then
    last = redis.call('XADD', KEYS[1], '*', unpack(fields))
  else
    last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', unpack(fields))
  end
end
redis.call('SET', KEYS[3], mark .. last, 'EX', 86400)
redis.call('SET', KEYS[4], ARGV[#ARGV - 1], 'EX', 86400)
return {last, '0'}
