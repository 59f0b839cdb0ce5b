#!lua flags=allow-oom
-- Deletes records that are accounted for. KEYS 1 tail stream. ARGV 1 group, 2.. ids of the stream entries.
-- Returns how many were named. allow-oom: it makes room.
for i = 2, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
end
return #ARGV - 1
