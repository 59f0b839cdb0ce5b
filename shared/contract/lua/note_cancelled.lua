#!lua flags=allow-oom
-- Notes what a gateway answers to cancels. KEYS 1 exchanges of its boot that are to be cancelled, 2 its answers. ARGV 1
-- seconds for which they are kept, 2.. exchange id and answer in turn. Returns 1. allow-oom: as the question.
for i = 2, #ARGV, 2 do
  redis.call('SREM', KEYS[1], ARGV[i])
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
return redis.call('EXPIRE', KEYS[2], ARGV[1])
