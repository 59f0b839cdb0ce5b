#!lua flags=allow-oom
-- Takes messages of a webhook that are due, for a while: one that is not moved by then is due again.
-- KEYS  1 when each is due   2 messages
-- ARGV  1 how many   2 milliseconds until they are due again
-- Returns the messages.
-- allow-oom: what is sent makes room.
local time = redis.call('TIME')
local now, taken = time[1] * 1000 + math.floor(time[2] / 1000), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local message = redis.call('HGET', KEYS[2], id)
  if message then
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
    taken[#taken + 1] = message
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return taken
