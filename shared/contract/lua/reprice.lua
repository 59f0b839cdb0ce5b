#!lua flags=allow-oom
-- Appends a revision of a final exchange that has another price, and changes the totals by the difference
-- (decision 114). allow-oom: as settle.
--
-- KEYS  1 ledger stream   2 index of ledger entries (boot, n)   3 totals of the hour   4 of the day   5 of all time
--       6 of the day of its team   7 of all time of its team; both only where it has one
-- ARGV  1 n of the exchange   2 exchange id   3 the ledger entry that it replaces   4 revision
--       5 provider, model prefix of the totals' fields   6 names of the amounts, space-separated
--       7 their differences, likewise   8 ledger entry (JSON)   9 seconds the index lives
-- Returns 1: done, 0: another revision has been booked meanwhile.
--
-- Hours and days that have expired stay so. No amount becomes a number here: each difference is the text it came as.
local call = redis.call
if call('HGET', KEYS[2], ARGV[1]) ~= ARGV[3] then return 0 end
local there = {call('EXISTS', KEYS[3]) == 1, call('EXISTS', KEYS[4]) == 1, true}
if KEYS[6] then there[4], there[5] = call('EXISTS', KEYS[6]) == 1, true end
local names = string.gmatch(ARGV[6], '%S+')
for difference in string.gmatch(ARGV[7], '%S+') do
  local name = names()
  for place = 1, #there do
    if difference ~= '0' and there[place] then call('HINCRBY', KEYS[place + 2], ARGV[5] .. name, difference) end
  end
end
local entry = call('XADD', KEYS[1], '*', 'x', ARGV[2], 'revision', ARGV[4], 'final', '1', 'entry', ARGV[8],
  'delta', ARGV[7], 'repriced', '1')
call('HSET', KEYS[2], ARGV[1], entry)
call('EXPIRE', KEYS[2], ARGV[9])
return 1
