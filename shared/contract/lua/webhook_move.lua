#!lua flags=allow-oom
-- Says what becomes of a message of a webhook after an attempt, or on the operator's order.
-- KEYS  1 when each is due   2 dead letters   3 messages   4 counts
-- ARGV  1 id   2 where to: sent, due or dead   3 the message as it is now   4 milliseconds until it is due
--       5 most dead letters, of which the oldest are lost
-- Returns 1, or 0 where there is no such message any more.
-- allow-oom: what is sent makes room.
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == 'sent' then
  redis.call('HDEL', KEYS[3], ARGV[1])
  redis.call('HINCRBY', KEYS[4], 'sent', 1)
  return 1
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
if ARGV[2] == 'due' then
  redis.call('ZADD', KEYS[1], now + ARGV[4], ARGV[1])
  return 1
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
if redis.call('ZCARD', KEYS[2]) > tonumber(ARGV[5]) then
  redis.call('HDEL', KEYS[3], redis.call('ZPOPMIN', KEYS[2])[1])
  redis.call('HINCRBY', KEYS[4], 'lost', 1)
end
return 1
