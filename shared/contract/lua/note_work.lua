#!lua flags=allow-oom
-- Notes what an exchange says of work that ends elsewhere, and lets one exchange, the first, book its result
-- (decision 46). allow-oom: only meters can empty a full Redis.
-- KEYS  1 open work   2.. records of the work, one for each of its names: its own id, the file with its result
-- ARGV  1 exchange id   2 "book": it holds the result; "look": it does not
--       3 "1" it may book the result though nobody is known to have begun the work
--       4 who began the work (JSON); "" where this exchange did not
--       5 provider and id of the work, as open work lists it   6 seconds the records live
-- Returns {exchange that books the result, or "", who began the work (JSON), or ""}.
local call = redis.call
local holder, start = '', ''
for i = 2, #KEYS do
  if holder == '' then holder = call('HGET', KEYS[i], 'holder') or '' end
  if start == '' then start = call('HGET', KEYS[i], 'start') or '' end
end
if start == '' then start = ARGV[4] end
if holder == '' and ARGV[2] == 'book' and (start ~= '' or ARGV[3] == '1') then holder = ARGV[1] end
if holder == '' and start == '' and #KEYS < 3 then return {'', ''} end

for i = 2, #KEYS do
  call('HSET', KEYS[i], 'name', ARGV[5])
  if start ~= '' then call('HSET', KEYS[i], 'start', start) end
  if holder ~= '' then call('HSET', KEYS[i], 'holder', holder) end
  call('EXPIRE', KEYS[i], ARGV[6])
end
if holder ~= '' then
  call('ZREM', KEYS[1], ARGV[5])
elseif start ~= '' then
  local time = call('TIME')
  call('ZADD', KEYS[1], 'NX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[5])
end
return {holder, start}
