#!lua
-- Changes the limits of a team or of everything, so that gateways notice.
-- KEYS  1 hash of limits
-- ARGV  1 scope   2 its limits, "" for none
-- Returns the number of the change. No allow-oom: a full server refuses.
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return redis.call('HINCRBY', KEYS[1], 'version', 1)
