#!lua flags=allow-oom
-- Notes how far a follower has read a shard's ledger, and how it does.
-- KEYS  1 hash of the follower and shard
-- ARGV  1 the cursor that must be there ("position epoch"), "" for any   2.. field and value in turn
-- Returns 1, or 0 where another process has moved the cursor.
-- allow-oom: what followers have read may be trimmed, which makes room.
if ARGV[1] ~= '' then
  local there = redis.call('HMGET', KEYS[1], 'position', 'epoch')
  if (there[1] or '') .. ' ' .. (there[2] or '0') ~= ARGV[1] then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
