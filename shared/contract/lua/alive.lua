#!lua flags=allow-oom
-- Says that a worker lives, by the server's clock. KEYS 1 live workers. ARGV 1 worker, 2 milliseconds until it is
-- forgotten. Returns how many live. allow-oom: only meters can empty a full Redis.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
