#!lua
-- Asks one scope whether a request may begin, and reserves for it.
--
-- KEYS  1 hash of the scope
-- ARGV  1 permit
--       2 until when this may run, ms of this server's clock: a script that comes later reserves nothing
--       3 what calls are learned by: provider and model
--       4 words, with a space between them: nano-dollars and tokens to reserve while nothing is learned; the most tokens
--         that the request can use, "-" where nobody knows; 1 where it can cost anything, 0 where only requests count;
--         the limits: reset (d, w, m or e), usd, tokens, rpm, tpm, rpd, concurrent ("-" for no limit), 1 for soft;
--         and the period: day, week, month
-- Returns {verdict, now, why, wait, used, reserved, used, reserved, left, left, left, left, reserve, reserve}: verdict
--   1 admitted, 2 admitted though it is over a soft limit, 0 refused, -1 too late, -2 the scope has not been started;
--   why of a refusal: 1 usd, 2 tokens, 3 rpm, 4 tpm, 5 rpd, 6 concurrent; wait in ms, -1 where the budget is spent;
--   then used and reserved of usd and tokens, and what is left of rpm, tpm, rpd and concurrent; then what is reserved.
--   Asking again with the same permit changes nothing.
-- No allow-oom: a full server refuses.
--
-- Amounts are added by HINCRBY, from texts. Numbers are compared as doubles, exact up to 2^53 - 1, where limits end; of
-- a bucket the debt is kept, in units times the ms of its period, and goes down by the rate each ms.

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[2]) then return {-1, now} end

-- One argument in place of fifteen: packing them is most of what a question costs a gateway.
local guess_usd, guess_tok, bound, calls, limits, day, week, month =
  string.match(ARGV[4], '^(%d+) (%d+) (%S+) (%d) (%l %S+ %S+ %S+ %S+ %S+ %S+ %d) (%d+) (%d+) (%d+)$')
local reset, usd, tok, rpm, tpm, rpd, most, soft =
  string.match(limits, '^(%l) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%d)$')
local period = ({d = 'd:' .. day, w = 'w:' .. week, m = 'm:' .. month, e = 'e'})[reset]
local permit = 'p:' .. ARGV[1]
local got = call('HMGET', KEYS[1], 'state', permit, 'usd:' .. period, 'tok:' .. period, 'r:usd', 'r:tok', 'slots',
  'rpm', 'tpm', 'rpd', 'limits', 'u:' .. ARGV[3], 'u:')
if got[1] ~= '1' then return {-2, now} end

local MOST = 9007199254740991
local function whole(number) return string.format('%.0f', math.min(number, MOST)) end

local function debt(stored, rate)
  if not rate then return 0 end
  local was, at = string.match(stored or '0 0', '^(%d+) (%d+)$')
  return math.max(0, was - math.max(0, now - at) * rate)
end

local used_usd, used_tok = got[3] or '0', got[4] or '0'
local held_usd, held_tok = got[5] or '0', got[6] or '0'
local slots = tonumber(got[7] or '0')
usd, tok, rpm, tpm, rpd, most = tonumber(usd), tonumber(tok), tonumber(rpm), tonumber(tpm), tonumber(rpd), tonumber(most)
calls = calls == '1'
local owed_m, owed_t, owed_d = debt(got[8], rpm), debt(got[9], tpm), debt(got[10], rpd)

local function left(rate, owed, ms) return rate and math.floor((rate * ms - owed) / ms) or -1 end

local function answer(verdict, why, wait, reserve_usd, reserve_tok)
  return {verdict, now, why, wait, used_usd, held_usd, used_tok, held_tok, left(rpm, owed_m, 60000),
    left(tpm, owed_t, 60000), left(rpd, owed_d, 86400000), most and most - slots or -1, reserve_usd, reserve_tok}
end

if got[2] then -- the reply to the same question was lost
  local had_usd, had_tok = string.match(got[2], '^(%d+) (%d+)')
  return answer(1, 0, 0, had_usd, had_tok)
end

-- A refusal by a budget that is spent goes first, then the longest wait.
local why, wait = 0, 0
local function refuse(reason, ms)
  if wait >= 0 and (ms < 0 or ms > wait) then why, wait = reason, ms end
end
local function budget(reason, limit, used, held)
  if not limit or not calls then return end
  if used + 0 >= limit then refuse(reason, -1) elseif used + held >= limit then refuse(reason, 1000) end
end
local function requests(reason, rate, owed, ms)
  if rate and owed + ms > rate * ms then refuse(reason, math.max(1, math.ceil((owed + ms - rate * ms) / rate))) end
end
if calls and most and slots >= most then refuse(6, 1000) end
requests(3, rpm, owed_m, 60000)
requests(5, rpd, owed_d, 86400000)
if calls and tpm and owed_t >= tpm * 60000 then refuse(4, math.floor((owed_t - tpm * 60000) / tpm) + 1) end
budget(2, tok, used_tok, held_tok)
budget(1, usd, used_usd, held_usd)
if why ~= 0 and soft ~= '1' then return answer(0, why, wait, '0', '0') end

-- What such calls usually cost: the mean and its spread, bounded by what the request allows.
local reserve_usd, reserve_tok = '0', '0'
local slot = calls and most and '1' or '0'
if calls then
  local learned = got[12] or got[13]
  local cost, count = tonumber(guess_usd), tonumber(guess_tok)
  if learned then
    local _, mean_usd, far_usd, mean_tok, far_tok = string.match(learned, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    cost, count = mean_usd + far_usd, mean_tok + far_tok
  end
  bound = tonumber(bound)
  if bound and bound < count then cost, count = math.floor(cost * (bound / count)), bound end
  reserve_usd, reserve_tok = whole(cost), whole(count)
  call('HINCRBY', KEYS[1], 'r:usd', reserve_usd)
  call('HINCRBY', KEYS[1], 'r:tok', reserve_tok)
  if slot == '1' then
    call('HINCRBY', KEYS[1], 'slots', 1)
    slots = slots + 1
  end
end
-- Where it can cost nothing, too: it has been counted as a request, which settling and undoing must know.
call('HSET', KEYS[1], permit, reserve_usd .. ' ' .. reserve_tok .. ' ' .. slot)
if got[11] ~= limits then -- what was used before limits change is no overshoot of theirs
  call('HSET', KEYS[1], 'limits', limits, 'base', period .. ' ' .. used_usd .. ' ' .. used_tok)
end
local at = ' ' .. whole(now)
if rpm then
  owed_m = owed_m + 60000
  call('HSET', KEYS[1], 'rpm', whole(owed_m) .. at)
end
if tpm then
  owed_t = math.min(MOST, owed_t + reserve_tok * 60000)
  call('HSET', KEYS[1], 'tpm', whole(owed_t) .. at)
end
if rpd then
  owed_d = owed_d + 86400000
  call('HSET', KEYS[1], 'rpd', whole(owed_d) .. at)
end
return answer(why == 0 and 1 or 2, why, wait, reserve_usd, reserve_tok)
