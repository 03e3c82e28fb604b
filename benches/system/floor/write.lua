local replication = redis.call('INFO', 'replication')
local time = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[1])
return { tonumber(time[1]), tonumber(time[2]) }
