#!lua flags=allow-oom
-- Notes that a meter lives, by the server's clock. KEYS 1 live meters. ARGV 1 meter, 2 milliseconds until it is
-- forgotten. Returns how many meters live. allow-oom: only meters can empty a full Redis.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
