local replication = redis.call('INFO', 'replication')
local time = redis.call('TIME')
return { tonumber(time[1]), tonumber(time[2]), redis.call('GETRANGE', KEYS[1], 0, 20) }
