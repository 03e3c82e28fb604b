-- Compares and sets one record, without any rule. On a mismatch nothing changes, and the reply has
-- what is stored.
--
-- KEYS: epoch, freeze [, record, due queue, channel, reconciliations, changed instances, ends of
--       records [, request entry to read { , request entry to write }*]]
-- ARGV: 'read', version and epoch of the record that the reader has. It is not sent again if it is
--       still the stored one
--    or 'primary_seen': records that this server is used now, if the epoch is its own. The third
--       key is primary_seen_at
--    or 'epoch', epoch that was seen ('' if none), replication id that was seen, hold-down in us,
--       settings
--    or 'register', settings of a replica that is alive, us after which one counts as gone. The
--       third key is the members
--    or 'repair', the farthest from now that a member of each queue may be due, in us. The third
--       and fourth key are the due queue and the reconciliations
--    or 'changes', the position after which to read, most. The third key is the changed instances
--    or 'probe', now in us: a write under the conditions of a commit. The third key is a scratch
--       value
--    or 'freeze', freeze ('' for none any more)
--    or 'commit', version, epoch, freeze, now in us, record, life in ms ('' without limit), command
--       of the notification ('SPUBLISH', 'PUBLISH' or ''), instance, its next reconciliation in us
--       ('' as it is, '-' none), number of request entries, { request entry ('' for none any
--       more) }*, { due member, due in us ('' for no more) }*
-- Returns: { 'committed', time in us, version }
--    or    { 'found', time in us, epoch, replication id, freeze
--            [, version, record, request entry] }
--    or    { 'unchanged', time in us, epoch, replication id, freeze, version, '', request entry }
--    or    { 'listed', time in us, epoch, replication id, freeze,
--            { settings of each replica alive }* }
--    or    { 'listed', time in us, epoch, replication id, freeze, last position,
--            { instance, position }* }

-- Numbers above 1e14 would print as 1.7e+15.
local function text(number) return string.format('%.0f', number) end

local replication = redis.call('INFO', 'replication')
if string.find(replication, 'role:slave', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
local replid = string.match(replication, 'master_replid:(%x+)')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = redis.call('GET', KEYS[1]) or ''
local freeze = redis.call('GET', KEYS[2]) or ''
local function version() return string.match(redis.call('GETRANGE', KEYS[3], 0, 20), '^%d+') or '0' end
local function in_time(at) return math.abs(now - tonumber(at)) <= 250000 end

if ARGV[1] == 'epoch' and epoch == ARGV[2] and replid == ARGV[3] then
  local hold_down = tonumber(ARGV[4])
  epoch = replid .. ' ' .. text(hold_down > 0 and now + hold_down or 0) .. ' ' .. ARGV[5]
  redis.call('SET', KEYS[1], epoch)
end

if ARGV[1] == 'freeze' then
  -- Not DEL, which would be one more right for the ACL user.
  if ARGV[2] == '' then
    redis.call('SET', KEYS[2], '', 'PX', 1)
  else
    redis.call('SET', KEYS[2], ARGV[2])
  end
  freeze = ARGV[2]
end

if ARGV[1] == 'primary_seen' and string.match(epoch, '^%x+') == replid then
  redis.call('SET', KEYS[3], text(now))
end

if ARGV[1] == 'register' then
  redis.call('ZADD', KEYS[3], text(now), ARGV[2])
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', text(now - tonumber(ARGV[3])))) do
    redis.call('ZREM', KEYS[3], gone)
  end
  -- Written by another clock: alive for as long again.
  for _, later in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. text(now), '+inf')) do
    redis.call('ZADD', KEYS[3], text(now), later)
  end
  local registered = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', '+inf')
  return { 'listed', text(now), epoch, replid, freeze, unpack(registered) }
end

if ARGV[1] == 'changes' then
  local changes, after = { redis.call('ZSCORE', KEYS[3], '') or '0' }, '(' .. ARGV[2]
  local found = redis.call('ZRANGEBYSCORE', KEYS[3], after, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
  for _, part in ipairs(found) do changes[#changes + 1] = part end
  return { 'listed', text(now), epoch, replid, freeze, unpack(changes) }
end

if ARGV[1] == 'repair' then
  -- Another clock wrote times that are later than allowed.
  for i = 2, 3 do
    local latest = '(' .. text(now + tonumber(ARGV[i]))
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[i + 1], latest, '+inf', 'LIMIT', 0, 1000)) do
      redis.call('ZADD', KEYS[i + 1], text(now), member)
    end
  end
  return { 'found', text(now), epoch, replid, freeze }
end

if ARGV[1] == 'probe' and in_time(ARGV[2]) then
  redis.call('SET', KEYS[3], '1', 'PX', 1)
  return { 'committed', text(now), '0' }
end

if ARGV[1] == 'commit'
  and version() == ARGV[2]
  and epoch == ARGV[3] and freeze == ARGV[4] and string.match(epoch, '^%x+') == replid
  and in_time(ARGV[5]) then
  local new = text(math.max(tonumber(ARGV[2]) + 1, now))
  -- First, because a server that may not write refuses it: out of memory, too few replicas.
  if ARGV[7] == '' then
    redis.call('SET', KEYS[3], new .. '\n' .. ARGV[6])
  else
    redis.call('SET', KEYS[3], new .. '\n' .. ARGV[6], 'PX', ARGV[7])
  end
  if ARGV[10] == '-' then
    redis.call('ZREM', KEYS[6], ARGV[9])
  elseif ARGV[10] ~= '' then
    redis.call('ZADD', KEYS[6], ARGV[10], ARGV[9])
  end
  local requests = tonumber(ARGV[11])
  -- Not DEL, which would be one more right for the ACL user.
  for i = 1, requests do redis.call('SET', KEYS[9 + i], ARGV[11 + i], 'PX', ARGV[11 + i] == '' and 1 or 86400000) end
  for i = 12 + requests, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('ZREM', KEYS[4], ARGV[i])
    else
      redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i])
    end
  end
  if ARGV[8] ~= '' or not redis.call('ZSCORE', KEYS[7], ARGV[9]) then
    -- The member '' has the last position, so that positions rise whatever the clock does.
    local position = text(math.max(now, tonumber(redis.call('ZSCORE', KEYS[7], '') or 0) + 1))
    redis.call('ZADD', KEYS[7], position, ARGV[9], position, '')
  end
  redis.call('ZADD', KEYS[8], ARGV[7] == '' and '+inf' or text(now + 1000 * tonumber(ARGV[7])), ARGV[9])
  -- A commit adds one instance at most, so removing two keeps up.
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', text(now), 'LIMIT', 0, 2)) do
    redis.call('ZREM', KEYS[7], gone)
    redis.call('ZREM', KEYS[8], gone)
  end
  -- A notification is only a hint, so a failure to send it is ignored.
  if ARGV[8] ~= '' then redis.pcall(ARGV[8], KEYS[5], ARGV[9]) end
  return { 'committed', text(now), new }
end

local found = { 'found', text(now), epoch, replid, freeze }
if KEYS[3] and ARGV[1] == 'read' and epoch == ARGV[3] and version() == ARGV[2] then
  found[1], found[6], found[7] = 'unchanged', ARGV[2], ''
  found[8] = KEYS[9] and redis.call('GET', KEYS[9]) or ''
elseif KEYS[3] then
  local value = redis.call('GET', KEYS[3])
  local cut = value and string.find(value, '\n', 1, true)
  found[6] = cut and string.sub(value, 1, cut - 1) or '0'
  found[7] = cut and string.sub(value, cut + 1) or ''
  found[8] = KEYS[9] and redis.call('GET', KEYS[9]) or ''
end
return found
