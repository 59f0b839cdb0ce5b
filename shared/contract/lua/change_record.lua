#!lua
-- Changes fields of the record of a key or team. It does not make one: half a record would be a key without its limits.
-- KEYS  1 the record
-- ARGV  name and value of each field in turn; "" deletes the field
-- Returns 1, or 0 where there is no record. No allow-oom: it can wait.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 2 do
  redis.call('HDEL', KEYS[1], ARGV[i])
  if ARGV[i + 1] ~= '' then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
