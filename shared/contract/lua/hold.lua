#!lua flags=allow-oom
-- Moves records from a tail stream to the quarantine; moving them again changes nothing.
-- KEYS  1 quarantine   2 tail stream
-- ARGV  1 group   2.. for each record: the id of its stream entry, and the record with the reason
-- Returns 1. allow-oom: bad records must not keep a full Redis full.
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('XACK', KEYS[2], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[2], ARGV[i])
end
return 1
