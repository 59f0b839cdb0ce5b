#!lua flags=allow-oom
-- Takes work off the list of open work that nobody has fetched for too long, and counts it.
-- KEYS  1 open work   2 counts of work
-- ARGV  1 milliseconds after which it has expired   2 how many at most
-- Returns what has expired. allow-oom: it makes room.
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', before, 'LIMIT', 0, ARGV[2])
for _, name in ipairs(expired) do redis.call('ZREM', KEYS[1], name) end
if #expired > 0 then redis.call('HINCRBY', KEYS[2], 'expired', #expired) end
return expired
