#!lua flags=allow-oom
-- Settles one exchange, exactly once. allow-oom: a full Redis must still be able to drain.
--
-- KEYS  1 tail stream             2 bitmap of final exchanges (boot, shard)   3 provisional hash
--       4 totals of the hour      5 totals of the day                         6 totals since ever
--       7 ledger stream           8 shard stats                               9 index of ledger entries (boot, n)
--      10 keys with something booked that day
-- ARGV  1 group                   2 n of the exchange                         3 exchange id
--       4 "1" final, "0" provisional                                          5 expected provisional value, "" for none
--       6 provider, model prefix of the totals' fields
--       7 counter names, space-separated                                      8 their values, likewise
--       9 ledger entry (JSON)    10 seconds the bitmap lives                 11 seconds the hour's totals live
--      12 seconds the day's totals live                                      13 seconds the index lives
--      14 "1" where the report has drifted from what was observed              15 key hash
--      16.. ids of the stream entries to drop
-- Returns {verdict, revision}: 1 settled, 2 amended, 0 was final already, -1 somebody else has amended meanwhile.
--
-- Redis rolls nothing back: whatever can fail is checked before the first write.

local n = tonumber(ARGV[2])
if not n or n < 0 or n >= 16777216 then return redis.error_reply('BADREC n out of range') end

local function drop()
  for first = 16, #ARGV, 1000 do -- unpack has a limit
    local last = math.min(first + 999, #ARGV)
    redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, last))
    redis.call('XDEL', KEYS[1], unpack(ARGV, first, last))
  end
end

if redis.call('GETBIT', KEYS[2], n) == 1 then
  redis.call('HINCRBY', KEYS[8], 'duplicates', 1)
  drop()
  return {0, 0}
end

local booked = redis.call('HGET', KEYS[3], ARGV[3]) or ''
if booked ~= ARGV[5] then return {-1, 0} end

-- A provisional value is "revision value value …".
local before = {}
for value in string.gmatch(booked, '%d+') do before[#before + 1] = tonumber(value) end
local revision = (before[1] or 0) + 1

local at = 1
for value in string.gmatch(ARGV[8], '%d+') do
  at = at + 1
  if tonumber(value) > 9007199254740991 then return redis.error_reply('BADREC a counter is out of range') end
  before[at] = tonumber(value) - (before[at] or 0)
end
at = 1
for name in string.gmatch(ARGV[7], '%S+') do
  at = at + 1
  if before[at] ~= 0 then
    redis.call('HINCRBY', KEYS[4], ARGV[6] .. name, before[at])
    redis.call('HINCRBY', KEYS[5], ARGV[6] .. name, before[at])
    redis.call('HINCRBY', KEYS[6], ARGV[6] .. name, before[at])
  end
end
redis.call('EXPIRE', KEYS[4], ARGV[11])
redis.call('EXPIRE', KEYS[5], ARGV[12])
redis.call('SADD', KEYS[10], ARGV[15])
redis.call('EXPIRE', KEYS[10], ARGV[12])
local entry = redis.call('XADD', KEYS[7], '*', 'x', ARGV[3], 'revision', revision, 'final', ARGV[4], 'entry', ARGV[9])
redis.call('HSET', KEYS[9], n, entry)
redis.call('EXPIRE', KEYS[9], ARGV[13])

if ARGV[4] == '1' then
  redis.call('SETBIT', KEYS[2], n, 1)
  redis.call('EXPIRE', KEYS[2], ARGV[10])
  redis.call('HDEL', KEYS[3], ARGV[3])
  redis.call('HINCRBY', KEYS[8], 'settled', 1)
  if ARGV[14] == '1' then redis.call('HINCRBY', KEYS[8], 'drifted', 1) end
  drop() -- a provisional settlement deletes nothing: late records amend it
else
  redis.call('HSET', KEYS[3], ARGV[3], revision .. ' ' .. ARGV[8])
end
return {revision > 1 and 2 or 1, revision}
