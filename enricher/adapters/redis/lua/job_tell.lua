-- Gives a worker an order. KEYS: prefix. ARGV: worker, order ("" begin jobs again), seconds for which it holds unless
-- the worker renews it. Replies 0 if there is no such worker.
local worker, order = ARGV[1], ARGV[2]
if redis.call('EXISTS', PREFIX .. ':worker:' .. worker) == 0 then return 0 end
if order == '' then
  redis.call('DEL', told_key(worker))
else
  redis.call('SET', told_key(worker), order, 'EX', ARGV[3])
end
redis.call('PUBLISH', PREFIX .. ':control', 'told ' .. order .. ' ' .. worker)
return 1
