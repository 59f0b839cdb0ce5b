#!lua flags=allow-oom
-- Notes the state of a boot, by the server's clock, and how many exchanges it has opened. Counts only grow, whoever
-- sends them, and "adopted" is final.
-- KEYS  1 boots by their last heartbeat   2 state of this boot   3 most shards any boot has used
--       4 what its gateway says of itself   5 number of the last reload   6 when somebody last asked what runs
--       7 exchanges of this boot that are to be cancelled   8 what its gateway runs
-- ARGV  1 boot   2 state   3 seconds until it is forgotten   4 its shards   5 what its gateway says ("": as before)
--       6 milliseconds for which that holds   7.. shard and count in turn
-- Returns 1 where this Redis has heard of the boot before, else 0; the number of the last reload; when somebody last
-- asked what runs (ms, 0: not lately); exchanges to cancel, a hundred at most.
-- allow-oom: a full Redis must not make living gateways look dead.
local time = redis.call('TIME')
local new = redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
if redis.call('HGET', KEYS[2], 'state') ~= 'adopted' then redis.call('HSET', KEYS[2], 'state', ARGV[2]) end
for i = 7, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[2], ARGV[i])) or 0
  if tonumber(ARGV[i + 1]) > known then redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
local shards = tonumber(redis.call('GET', KEYS[3])) or 0
if tonumber(ARGV[4]) > shards then redis.call('SET', KEYS[3], ARGV[4]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', (time[1] - ARGV[3]) * 1000)
if ARGV[2] ~= 'live' then
  redis.call('DEL', KEYS[4], KEYS[8])
elseif ARGV[5] ~= '' then
  redis.call('SET', KEYS[4], ARGV[5], 'PX', ARGV[6])
end
local reload, asked = redis.call('GET', KEYS[5]), redis.call('GET', KEYS[6])
return {1 - new, tonumber(reload) or 0, tonumber(asked) or 0, redis.call('SRANDMEMBER', KEYS[7], 100)}
