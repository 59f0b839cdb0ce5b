#!lua flags=allow-oom
-- Applies entries of one shard's ledger to one scope: what they add, and the end of their reservations.
--
-- KEYS  1 hash of the scope
-- ARGV  1 shard
--       2.. for each entry ten: its id (ms, number), its period (day, week, month), nano-dollars and tokens that it
--       adds, requests that it adds, its permit ("" for none), and what calls are learned by ("" to learn nothing)
-- Returns {new, period, usd, tokens, limits, told, told, over}: how many entries were new; then of the period of the latest
--   one what is used, the limits as the last admission had them, and which share of each budget was told already, in
--   percent, and the worst overshoot in millionths of a budget; {-1} where the scope is not known.
-- allow-oom: what followers have read may be trimmed, which makes room.
--
-- An entry at or below the cursor of its shard adds nothing, and ends its reservation all the same: a server that took
-- over may have the reservation again. Amounts are added by HINCRBY, as the texts that they came as.

local call = redis.call
local cursor = 'cursor:' .. ARGV[1]
local got = call('HMGET', KEYS[1], 'state', cursor, 'limits', 'rpm', 'tpm', 'rpd')
if not got[1] then return {-1} end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local MOST = 9007199254740991
local function whole(number) return string.format('%.0f', math.max(0, math.min(number, MOST))) end

local at_ms, at_number = string.match(got[2] or '0-0', '^(%d+)%-(%d+)$')
at_ms, at_number = tonumber(at_ms), tonumber(at_number)
local reset, _, _, rpm, tpm, rpd = string.match(got[3] or 'e - - - - - - 0', '^(%l) (%S+) (%S+) (%S+) (%S+) (%S+)')
rpm, tpm, rpd = tonumber(rpm), tonumber(tpm), tonumber(rpd)

local more_t, more_m = 0, 0 -- tokens and requests that the buckets have not counted
local new, latest = 0, nil

local function add(name, text)
  if text ~= '0' then call('HINCRBY', KEYS[1], name, text) end
end

local function less(name, text) -- "-0" is no number to HINCRBY
  if text ~= '0' then call('HINCRBY', KEYS[1], name, '-' .. text) end
end

-- Mean and mean distance from it, of the last eight or so. A scope learns of 32 models; others share a place.
local function learn(group, usd, tok)
  local field = 'u:' .. group
  local had = call('HGET', KEYS[1], field)
  if not had then
    if call('HINCRBY', KEYS[1], 'learned', 1) > 32 then field = 'u:' end
    had = call('HGET', KEYS[1], field) or '0 0 0 0 0'
  end
  local n, mean_usd, far_usd, mean_tok, far_tok = string.match(had, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  n = math.min(8, n + 1)
  local function nearer(mean, far, value)
    local off = value - mean
    return whole(mean + off / n), whole(far + (math.abs(off) * (n > 1 and 1 or 0) - far) / n)
  end
  mean_usd, far_usd = nearer(tonumber(mean_usd), tonumber(far_usd), usd)
  mean_tok, far_tok = nearer(tonumber(mean_tok), tonumber(far_tok), tok)
  call('HSET', KEYS[1], field, whole(n) .. ' ' .. mean_usd .. ' ' .. far_usd .. ' ' .. mean_tok .. ' ' .. far_tok)
end

for first = 2, #ARGV, 10 do
  local ms, number = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  local usd, tok, requests = ARGV[first + 5], ARGV[first + 6], tonumber(ARGV[first + 7])
  local permit, group = ARGV[first + 8], ARGV[first + 9]
  local fresh = ms > at_ms or (ms == at_ms and number > at_number)
  local held = permit ~= '' and call('HGET', KEYS[1], 'p:' .. permit)
  if held then
    local held_usd, held_tok, slot = string.match(held, '^(%d+) (%d+) (%d)$')
    call('HDEL', KEYS[1], 'p:' .. permit)
    less('r:usd', held_usd)
    less('r:tok', held_tok)
    if slot == '1' then call('HINCRBY', KEYS[1], 'slots', -1) end
    more_t = more_t + tok - held_tok
  elseif fresh then
    more_t, more_m = more_t + tok, more_m + requests
  end
  if fresh then
    at_ms, at_number = ms, number
    new = new + 1
    if not latest or tonumber(ARGV[first + 2]) >= tonumber(latest[1]) then
      latest = {ARGV[first + 2], ARGV[first + 3], ARGV[first + 4]}
    end
    for _, period in ipairs({'d:' .. ARGV[first + 2], 'w:' .. ARGV[first + 3], 'm:' .. ARGV[first + 4], 'e'}) do
      add('usd:' .. period, usd)
      add('tok:' .. period, tok)
    end
    if group ~= '' then learn(group, tonumber(usd), tonumber(tok)) end
  end
end

local function owe(name, stored, rate, ms, units)
  if not rate or units == 0 then return end
  local was, at = string.match(stored or '0 0', '^(%d+) (%d+)$')
  local owed = math.max(0, was - math.max(0, now - at) * rate)
  call('HSET', KEYS[1], name, whole(owed + units * ms) .. ' ' .. whole(math.max(now, tonumber(at))))
end
owe('rpm', got[4], rpm, 60000, more_m)
owe('tpm', got[5], tpm, 60000, more_t)
owe('rpd', got[6], rpd, 86400000, more_m)
if new == 0 then return {0} end
call('HSET', KEYS[1], cursor, whole(at_ms) .. '-' .. whole(at_number))
local period = ({d = 'd:' .. latest[1], w = 'w:' .. latest[2], m = 'm:' .. latest[3], e = 'e'})[reset]
local now_used = call('HMGET', KEYS[1], 'usd:' .. period, 'tok:' .. period, 'told:usd:' .. period, 'told:tok:' .. period,
  'base', 'over')

-- The worst overshoot seen, in millionths of the limit.
local _, usd, tok, soft = string.match(got[3] or 'e - - - - - - 0', '^(%l) (%S+) (%S+) .* (%d)$')
local base_period, base_usd, base_tok = string.match(now_used[5] or '', '^(%S+) (%S+) (%S+)$')
local over = tonumber(now_used[6] or '0')
local function exceed(limit, used, base)
  if not limit or limit == 0 then return end
  local from = base_period == period and math.max(limit, tonumber(base)) or limit
  over = math.max(over, math.floor((used - from) / limit * 1000000))
end
if soft == '0' then
  exceed(tonumber(usd), tonumber(now_used[1] or '0'), base_usd)
  exceed(tonumber(tok), tonumber(now_used[2] or '0'), base_tok)
  if over > tonumber(now_used[6] or '0') then call('HSET', KEYS[1], 'over', whole(over)) end
end
return {new, period, now_used[1] or '0', now_used[2] or '0', got[3] or '', now_used[3] or '0', now_used[4] or '0',
  whole(over)}
