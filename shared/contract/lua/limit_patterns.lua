#!lua
-- Adds patterns of models to those that are counted of a scope, or takes some away: of two that do so at once, none is
-- lost.
-- KEYS  1 hash of scopes that are counted
-- ARGV  1 scope   2 "add" or "remove"   3.. patterns
-- Returns the patterns that are counted now. No allow-oom: a full server refuses.
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local there, named = {}, {}
for at = 3, #ARGV do named[ARGV[at]] = true end
for _, pattern in ipairs(stored and cjson.decode(stored) or {}) do
  if not named[pattern] then there[#there + 1] = pattern end
end
if ARGV[2] == 'add' then
  for pattern in pairs(named) do there[#there + 1] = pattern end
end
table.sort(there)
if #there == 0 then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(there))
end
return there
