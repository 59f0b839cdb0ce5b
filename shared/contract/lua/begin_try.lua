#!lua flags=allow-oom
-- Notes that an exchange is about to be measured alone, because meters may have died over it.
-- KEYS 1 tries. ARGV 1 exchange id. Returns how often it was, this time included.
-- allow-oom: a full Redis is emptied by settling, and this comes before it.
return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
