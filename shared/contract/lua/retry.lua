#!lua
-- Moves one record from the quarantine back to its tail stream.
-- KEYS  1 quarantine   2 tail stream
-- ARGV  1 the id it is held under   2.. its fields, names and values in turn
-- Returns 1 if it was held. No allow-oom: it can wait.
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return redis.call('HDEL', KEYS[1], ARGV[1])
