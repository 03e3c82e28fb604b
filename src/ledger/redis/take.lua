-- The budget of ENS calls: decides as src/rate_limit/bucket.rs does, by this server's clock.
--
-- KEYS: budget
-- ARGV: 'trip', family, pause in us
--    or 'close', family
--    or 'give' or 'give-probe', family, { lane, interval in us, burst in us }*
--    or 'take', family, probe permit in us, probe retry in us, most, whether in order, us waited,
--       us left to wait or -1, { lane, interval in us, burst in us }*, the bucket's own lane first
-- Returns: us to wait; 0: granted; -1: granted as the probe of an open breaker;
--    -1 - n: granted, and n more
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function read(field) return tonumber(redis.call('HGET', KEYS[1], field) or 0) end
local function write(field, us) redis.call('HSET', KEYS[1], field, string.format('%.0f', us)) end
-- Nothing ends later than if it had begun now: this server's clock may have been set back.
local function bounded(field, most)
  local at = read(field)
  if at > now + most then
    at = now + most
    write(field, at)
  end
  return at
end

local order, blocked, paused, probe = ARGV[1], ARGV[2] .. ':blocked', ARGV[2] .. ':paused', ARGV[2] .. ':probe'
local blocked_until = bounded(blocked, tonumber(redis.call('HGET', KEYS[1], paused) or 0))

if order == 'trip' then
  local pause = tonumber(ARGV[3])
  if now + pause >= blocked_until then
    write(blocked, now + pause)
    write(paused, pause)
  end
  redis.call('HDEL', KEYS[1], probe)
  return 0
end
if order == 'close' then
  if blocked_until <= now then redis.call('HDEL', KEYS[1], blocked, paused, probe) end
  return 0
end
if order == 'give' or order == 'give-probe' then
  for i = 3, #ARGV, 3 do
    local empty_at = read(ARGV[i])
    if empty_at > 0 then write(ARGV[i], empty_at - tonumber(ARGV[i + 1])) end
  end
  if order == 'give-probe' then redis.call('HDEL', KEYS[1], probe) end
  return 0
end

if blocked_until > now then return blocked_until - now end
if blocked_until > 0 then
  local probe_until = bounded(probe, tonumber(ARGV[3]))
  if probe_until > now then return math.min(probe_until - now, tonumber(ARGV[4])) end
end
local wait, after = 0, {}
for i = 9, #ARGV, 3 do
  local interval, burst = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  -- Never above a full bucket.
  local empty_at = bounded(ARGV[i], burst)
  after[i] = math.max(empty_at, now) + interval
  wait = math.max(wait, after[i] - burst - now)
end
if blocked_until == 0 and ARGV[6] == '1' then
  -- The token is kept for the caller that has waited longest: for 100 ms plus an eighth of the wait
  -- it was given, 10 s at most.
  local first, kept, left = ARGV[9] .. ':first', ARGV[9] .. ':kept', tonumber(ARGV[8])
  local kept_until, since = read(kept), now - tonumber(ARGV[7])
  local is_kept = kept_until > now and kept_until <= now + 10000000
  local before = left >= 0 and (not is_kept or since <= read(first) + 20000)
  if wait > 0 then
    if before and left >= wait then
      write(first, since)
      write(kept, now + wait + 100000 + math.floor(wait / 8))
    end
    return wait
  end
  if is_kept then
    if not before then return kept_until - now end
    redis.call('HDEL', KEYS[1], first, kept)
  end
end
if wait > 0 then return wait end
local further = blocked_until > 0 and 0 or tonumber(ARGV[5]) - 1
for i = 9, #ARGV, 3 do
  further = math.min(further, math.floor((now + tonumber(ARGV[i + 2]) - after[i]) / tonumber(ARGV[i + 1])))
end
for i = 9, #ARGV, 3 do write(ARGV[i], after[i] + further * tonumber(ARGV[i + 1])) end
if blocked_until > 0 then
  write(probe, now + tonumber(ARGV[3]))
  return -1
end
return further > 0 and -1 - further or 0
