#!lua
-- Puts messages into the queue of a webhook, each once by its id for as long as it is there. One that there is no room
-- for becomes a dead letter; of these the oldest are lost. Without allow-oom: a full Redis has no room for them.
-- KEYS  1 when each is due   2 dead letters   3 messages   4 counts
-- ARGV  1 most messages that wait   2 most dead letters   3.. id and message in turn
-- Returns how many were new.
local time = redis.call('TIME')
local now, new = time[1] * 1000 + math.floor(time[2] / 1000), 0
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[3], ARGV[i], ARGV[i + 1]) == 1 then
    local room = redis.call('ZCARD', KEYS[1]) < tonumber(ARGV[1])
    redis.call('ZADD', room and KEYS[1] or KEYS[2], now, ARGV[i])
    new = new + 1
  end
end
local beyond = redis.call('ZCARD', KEYS[2]) - ARGV[2]
if beyond > 0 then
  for i, part in ipairs(redis.call('ZPOPMIN', KEYS[2], beyond)) do
    if i % 2 == 1 then redis.call('HDEL', KEYS[3], part) end
  end
  redis.call('HINCRBY', KEYS[4], 'lost', beyond)
end
return new
