#!lua flags=allow-oom
-- Asks every gateway what it runs. KEYS 1 the last question. ARGV 1 milliseconds for which it stands. Returns when it was
-- asked: ms of the server's clock. allow-oom: a full Redis is a reason to ask.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', ARGV[1])
return now
