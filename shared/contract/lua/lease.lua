#!lua flags=allow-oom
-- Takes, renews or gives up a lease. KEYS 1 lease. ARGV 1 meter, 2 milliseconds (0 gives it up). Returns 1 if held.
-- allow-oom: only meters can empty a full Redis.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
