#!lua flags=allow-oom
-- Notes how a reload went in one process. KEYS 1 answers to that reload. ARGV 1 process, 2 how it went, 3 seconds for
-- which the answers are kept. Returns 1.
-- allow-oom: a full Redis must not make a process look as if it had not reloaded.
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('EXPIRE', KEYS[1], ARGV[3])
