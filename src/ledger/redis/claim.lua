-- Hides due members from other replicas for a while, by this server's clock.
--
-- KEYS: the due queue, or the reconciliations, of each member
-- ARGV: visibility in us, member*
-- Returns: the members that were still due
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local hidden_until = string.format('%.0f', now + tonumber(ARGV[1]))
local claimed = {}
for i, queue in ipairs(KEYS) do
  local member = ARGV[i + 1]
  local due = redis.call('ZSCORE', queue, member)
  if due and tonumber(due) <= now then
    redis.call('ZADD', queue, hidden_until, member)
    claimed[#claimed + 1] = member
  end
end
return claimed
