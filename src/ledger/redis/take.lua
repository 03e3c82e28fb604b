-- The budget of ENS calls: the same books as ledger/tokens.rs, by this server's clock.
--
-- KEYS: budget
-- ARGV: 'trip', family, pause in us
--    or 'close', family
--    or 'take' or 'give', family, probe permit in us, probe retry in us, { lane, interval in us, burst in us }*
-- Returns: us to wait; 0: granted; -1: granted as the probe of an open breaker
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function read(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end
local function write(field, us) redis.call('HSET', KEYS[1], field, string.format('%.0f', us)) end

local order, blocked, probe = ARGV[1], ARGV[2] .. ':blocked', ARGV[2] .. ':probe'
local blocked_until = read(blocked)

if order == 'trip' then
  write(blocked, math.max(blocked_until, now + tonumber(ARGV[3])))
  redis.call('HDEL', KEYS[1], probe)
  return 0
end
if order == 'close' then
  if blocked_until <= now then redis.call('HDEL', KEYS[1], blocked, probe) end
  return 0
end
if order == 'give' then
  for i = 5, #ARGV, 3 do
    local empty_at = read(ARGV[i])
    if empty_at > 0 then write(ARGV[i], empty_at - tonumber(ARGV[i + 1])) end
  end
  redis.call('HDEL', KEYS[1], probe)
  return 0
end

if blocked_until > now then return blocked_until - now end
if blocked_until > 0 then
  local probe_until = read(probe)
  if probe_until > now then return math.min(probe_until - now, tonumber(ARGV[4])) end
end
local wait, after = 0, {}
for i = 5, #ARGV, 3 do
  local interval, burst = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  -- Never above a full bucket: a clock that was set back must not block the lane.
  after[i] = math.min(math.max(read(ARGV[i]), now), now + burst) + interval
  wait = math.max(wait, after[i] - burst - now)
end
if wait > 0 then return wait end
for i = 5, #ARGV, 3 do write(ARGV[i], after[i]) end
if blocked_until > 0 then
  write(probe, now + tonumber(ARGV[3]))
  return -1
end
return 0
