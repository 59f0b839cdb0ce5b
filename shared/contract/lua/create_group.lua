#!lua flags=allow-oom
-- Makes a tail stream and its consumer group. KEYS 1 tail stream. ARGV 1 group. Returns OK; BUSYGROUP if there is one.
-- allow-oom: a full Redis refuses the plain command, and only a meter can empty it.
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
