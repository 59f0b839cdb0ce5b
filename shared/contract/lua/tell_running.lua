#!lua flags=allow-oom
-- Says what a gateway runs. KEYS 1 its answer. ARGV 1 the question that it answers, 2 the answer, 3 milliseconds for which
-- it is kept. Returns 1. allow-oom: it is bounded, and gone soon; a full Redis is a reason to ask.
redis.call('HSET', KEYS[1], 'asked', ARGV[1], 'said', ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
