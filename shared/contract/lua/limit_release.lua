#!lua flags=allow-oom
-- Ends reservations of one scope, or gives back a part of them. Doing it again changes nothing.
--
-- KEYS  1 hash of the scope
-- ARGV  1 "undo": the requests have not begun, and count nowhere; "ended": they run no longer, and what they cost is not
--       known yet; "gone": nobody will ever settle them
--       2.. permits
-- Returns how many reservations were changed.
-- allow-oom: it makes room.

local call = redis.call
local how = ARGV[1]
local MOST = 9007199254740991
local function whole(number) return string.format('%.0f', math.max(0, math.min(number, MOST))) end

local function less(name, text) -- "-0" is no number to HINCRBY
  if text ~= '0' then call('HINCRBY', KEYS[1], name, '-' .. text) end
end

local changed, requests, tokens = 0, 0, 0
for at = 2, #ARGV do
  local field = 'p:' .. ARGV[at]
  local held = call('HGET', KEYS[1], field)
  local usd, tok, slot = string.match(held or '', '^(%d+) (%d+) (%d)$')
  if held and (how ~= 'ended' or slot == '1') then
    changed = changed + 1
    if slot == '1' then call('HINCRBY', KEYS[1], 'slots', -1) end
    if how == 'ended' then
      call('HSET', KEYS[1], field, usd .. ' ' .. tok .. ' 0')
    else
      call('HDEL', KEYS[1], field)
      less('r:usd', usd)
      less('r:tok', tok)
      tokens = tokens + tok
      requests = requests + 1
    end
  end
end

-- Buckets get back what the requests took; what has flowed in meanwhile stays.
local function back(name, units, ms)
  local stored = call('HGET', KEYS[1], name)
  if not stored or units == 0 then return end
  local was, at = string.match(stored, '^(%d+) (%d+)$')
  call('HSET', KEYS[1], name, whole(was - units * ms) .. ' ' .. at)
end
if how == 'undo' then
  back('rpm', requests, 60000)
  back('rpd', requests, 86400000)
end
back('tpm', tokens, 60000)
return changed
