#!lua flags=allow-oom
-- Starts a scope, or starts it anew, from snapshots of all shards. Reservations stay.
-- KEYS  1 hash of the scope
-- ARGV  1 number of shards   2.. shard and id of the last entry of each, then field and value of what is used, in turn
-- Returns 1; 0 where a follower has gone beyond a snapshot meanwhile: take them anew.
-- allow-oom: a limit that cannot start refuses everything, and settling makes room in a full server.
local call = redis.call
local shards = tonumber(ARGV[1])
local function place(id)
  local ms, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local cursors = {}
for n = 0, shards - 1 do
  local shard, id = ARGV[2 + 2 * n], ARGV[3 + 2 * n]
  local there = call('HGET', KEYS[1], 'cursor:' .. shard)
  if there then
    local ms, number = place(id)
    local at_ms, at_number = place(there)
    if at_ms > ms or (at_ms == ms and at_number > number) then return 0 end
  end
  cursors[n + 1] = {'cursor:' .. shard, id}
end
for _, field in ipairs(call('HKEYS', KEYS[1])) do
  if string.find(field, '^usd:') or string.find(field, '^tok:') then call('HDEL', KEYS[1], field) end
end
for _, cursor in ipairs(cursors) do call('HSET', KEYS[1], cursor[1], cursor[2]) end
for at = 2 + 2 * shards, #ARGV, 2 do call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
call('HSET', KEYS[1], 'state', '1')
return 1
