-- Tries every command that the other scripts use, on scratch keys that it removes or that expire
-- soon. A script that lacks a right would fail half-way, after it wrote a record and before the
-- record's place in the queue.
--
-- KEYS: a string, a sorted set, a hash
-- Returns: the commands that this user may not run
local missing = {}
local function try(command, ...)
  local reply = redis.pcall(command, ...)
  local err = type(reply) == 'table' and reply.err or ''
  if string.find(err, 'NOPERM', 1, true) or string.find(err, "can't run", 1, true) then
    missing[#missing + 1] = command
  end
end

try('SET', KEYS[1], '1', 'PX', 1)
try('GET', KEYS[1])
try('GETRANGE', KEYS[1], 0, 0)
try('ZADD', KEYS[2], 1, 'try')
try('ZSCORE', KEYS[2], 'try')
try('ZRANGEBYSCORE', KEYS[2], 0, 1)
try('ZREM', KEYS[2], 'try')
try('HSET', KEYS[3], 'try', '1')
try('HGET', KEYS[3], 'try')
try('HDEL', KEYS[3], 'try')
return missing
