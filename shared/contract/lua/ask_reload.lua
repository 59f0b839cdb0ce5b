#!lua flags=allow-oom
-- Asks every process for a reload. KEYS 1 number of the last reload. Returns the new number.
-- allow-oom: a wrong setting may be why Redis is full.
return redis.call('INCR', KEYS[1])
