#!lua
-- Appends records to a tail stream, and counts the exchanges they open in the same step, so that conservation never
-- sees one without the other. One call and one reply for a whole batch: replies cost a client more than the entries
-- cost the server.
-- KEYS  1 tail stream   2 counts of opened exchanges, by boot
-- ARGV  for each record: its exchange id, its seq, and the record
-- Returns how many records. No allow-oom: records that find no room here wait in the gateway.
local opened = {}
for i = 1, #ARGV, 3 do
  redis.call('XADD', KEYS[1], '*', 'x', ARGV[i], 's', ARGV[i + 1], 'r', ARGV[i + 2])
  if ARGV[i + 1] == '0' then
    local boot, n = string.match(ARGV[i], '^(%w+)%.%d+%.(%d+)$')
    opened[boot] = math.max(opened[boot] or 0, n + 1)
  end
end
for boot, count in pairs(opened) do
  if count > (tonumber(redis.call('HGET', KEYS[2], boot)) or 0) then redis.call('HSET', KEYS[2], boot, count) end
end
return #ARGV / 3
