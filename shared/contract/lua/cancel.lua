#!lua flags=allow-oom
-- Asks the gateway of a boot to cancel an exchange. KEYS 1 exchanges of the boot that are to be cancelled, 2 what the
-- gateway has answered. ARGV 1 exchange id, 2 seconds for which it is asked. Returns 1.
-- allow-oom: a full Redis is a reason to cancel.
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[1], ARGV[1])
return redis.call('EXPIRE', KEYS[1], ARGV[2])
