#!lua flags=allow-oom
-- Settles one exchange, exactly once, with days and index (decision 25). allow-oom: settling empties a full Redis.
--
-- KEYS  1 tail stream             2 bitmap of final exchanges (boot, shard)   3 provisional hash
--       4 totals of the hour      5 totals of the day                         6 totals of all time
--       7 ledger stream           8 shard stats                               9 index of ledger entries (boot, n)
--      10 keys with something booked that day
--      11 12 13 like 4 5 6, of the key it is booked on so far; only where key, group or team change
--      then totals of the day and of all time of its team, and of the team it is booked on so far; each only where
--      there is one
-- ARGV  1 group                   2 n of the exchange                         3 exchange id
--       4 "1" final, "0" provisional                                          5 expected provisional value, "" for none
--       6 provider, model prefix of the totals' fields
--       7 counter names, space-separated                                      8 their values, likewise
--       9 ledger entry (JSON)    10 seconds the bitmap lives                 11 seconds the hour's totals live
--      12 seconds the day's totals live                                      13 seconds the index lives
--      14 "1" where the report has drifted from what was observed            15 key hash
--      16 the prefix it is booked under so far; "" where neither key, group nor team change
--      17 team, "" for none      18 likewise, the team it is booked on so far, where something of these changes
--      19.. ids of the stream entries to drop
-- Returns {verdict, revision}: 1 settled, 2 amended, 0 was final already, -1 another meter has amended meanwhile.
--
-- Redis rolls nothing back: everything that can fail is checked before the first write. No amount is joined with `..`,
-- which makes 1e+14 of 10^14: values stay the text that they came as, and differences go through `whole`.

local call = redis.call
local n = tonumber(ARGV[2])
if not n or n < 0 or n >= 16777216 then return redis.error_reply('BADREC n out of range') end

local function drop()
  for first = 19, #ARGV, 1000 do -- unpack has a limit
    local last = math.min(first + 999, #ARGV)
    call('XACK', KEYS[1], ARGV[1], unpack(ARGV, first, last))
    call('XDEL', KEYS[1], unpack(ARGV, first, last))
  end
end

if call('GETBIT', KEYS[2], n) == 1 then
  call('HINCRBY', KEYS[8], 'duplicates', 1)
  drop()
  return {0, 0}
end

local booked = call('HGET', KEYS[3], ARGV[3]) or ''
if booked ~= ARGV[5] then return {-1, 0} end

local function whole(number) return string.format('%.0f', number) end

-- `team`: the place of its totals in KEYS, nil for none.
local function add(first, team, field, text)
  call('HINCRBY', KEYS[first + 1], field, text)
  call('HINCRBY', KEYS[first + 2], field, text)
  if team then
    call('HINCRBY', KEYS[team + 1], field, text)
    -- Its day has a life of its own: a key may join within an hour in which something is booked on it already.
    if call('HINCRBY', KEYS[team], field, text) == 1 then call('EXPIRE', KEYS[team], ARGV[12]) end
  end
  return call('HINCRBY', KEYS[first], field, text)
end

local values = {}
for text in string.gmatch(ARGV[8], '%d+') do
  if tonumber(text) > 9007199254740991 then return redis.error_reply('BADREC a counter is out of range') end
  values[#values + 1] = text
end

local revision, delta, rest = 1, ARGV[8], ''
local here, moved = '\31' .. ARGV[15] .. '\31' .. ARGV[6], ARGV[16] ~= ''
local team, left -- places of the totals of the team, and of the one it is booked on so far
if ARGV[17] ~= '' then
  here, team = here .. ARGV[17] .. '\31', moved and 14 or 11
end
if ARGV[18] ~= '' then left = team and team + 2 or 14 end
local at, fresh = 0, booked ~= '' -- the totals that an amendment changes may have expired
if booked == '' then
  for name in string.gmatch(ARGV[7], '%S+') do
    at = at + 1
    -- The first request of a provider and model may have made the hashes (decision 31).
    if values[at] ~= '0' and add(4, team, ARGV[6] .. name, values[at]) == 1 then fresh = true end
  end
else
  -- A provisional value is "revision value value …", then key, prefix and, if any, team (see `here`).
  local before = {}
  for text in string.gmatch(string.match(booked, '^[%d ]*'), '%d+') do before[#before + 1] = text end
  revision = table.remove(before, 1) + 1
  -- A meter of an earlier version says nothing of the numbers it does not know, and leaves them as they are booked:
  -- what the last meter that knew more has booked of them stands beside the index.
  local beside, said = call('HGET', KEYS[9], ARGV[2] .. ':booked') or '', {}
  for text in string.gmatch(string.match(beside, '^[%d ]*'), '%d+') do said[#said + 1] = text end
  for place = #before + 1, #said do before[place] = said[place] end
  -- Nor does it say where: what it amended may be booked here already, by a meter that knew who answered.
  if not string.find(booked, '\31', 1, true) and string.sub(beside, -#here) == here then moved = false end
  delta = {}
  for name in string.gmatch(ARGV[7], '%S+') do
    at = at + 1
    local was = before[at] or '0'
    local difference = values[at] - was
    delta[at] = whole(difference)
    if moved then
      if was ~= '0' then add(11, left, ARGV[16] .. name, '-' .. was) end
      if values[at] ~= '0' then add(4, team, ARGV[6] .. name, values[at]) end
    elseif difference ~= 0 then
      add(4, team, ARGV[6] .. name, delta[at])
    end
  end
  delta = table.concat(delta, ' ')
  -- Numbers of a later version that this one does not know stay booked, and go on.
  for place = at + 1, #before do rest = rest .. ' ' .. before[place] end
end
if fresh then
  call('EXPIRE', KEYS[4], ARGV[11])
  call('EXPIRE', KEYS[5], ARGV[12])
  if team then call('EXPIRE', KEYS[team], ARGV[12]) end
  if moved then
    if left then call('EXPIRE', KEYS[left], ARGV[12]) end
    call('EXPIRE', KEYS[11], ARGV[11])
    call('EXPIRE', KEYS[12], ARGV[12])
  end
end
if call('SADD', KEYS[10], ARGV[15]) == 1 then call('EXPIRE', KEYS[10], ARGV[12]) end
local fields = {'x', ARGV[3], 'revision', revision, 'final', ARGV[4], 'entry', ARGV[9], 'delta', delta}
if moved then
  -- A value of 1.0 does not say where it was booked; the caller does.
  local from = string.find(booked, '\31', 1, true) and booked or booked .. '\31' .. ARGV[15] .. '\31' .. ARGV[16]
  fields[11], fields[12] = 'moved', from
end
local entry = call('XADD', KEYS[7], '*', unpack(fields))
call('HSET', KEYS[9], n, entry)
call('EXPIRE', KEYS[9], ARGV[13])

if ARGV[4] == '1' then
  call('SETBIT', KEYS[2], n, 1)
  call('EXPIRE', KEYS[2], ARGV[10])
  call('HDEL', KEYS[3], ARGV[3])
  if booked ~= '' then call('HDEL', KEYS[9], ARGV[2] .. ':booked') end
  call('HINCRBY', KEYS[8], 'settled', 1)
  if ARGV[14] == '1' then call('HINCRBY', KEYS[8], 'drifted', 1) end
  drop() -- a provisional settlement deletes nothing, so that late records amend it
else
  call('HSET', KEYS[3], ARGV[3], revision .. ' ' .. ARGV[8] .. rest .. here)
  call('HSET', KEYS[9], ARGV[2] .. ':booked', ARGV[8] .. rest .. here)
end
return {revision > 1 and 2 or 1, revision}
