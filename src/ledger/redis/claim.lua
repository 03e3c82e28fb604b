-- Hides due members from other replicas for a while, by this server's clock.
--
-- KEYS: due queue, or reconciliations
-- ARGV: visibility in us, member*
-- Returns: the members that were still due
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local claimed = {}
for i = 2, #ARGV do
  local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if due and tonumber(due) <= now then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[1])), ARGV[i])
    claimed[#claimed + 1] = ARGV[i]
  end
end
return claimed
