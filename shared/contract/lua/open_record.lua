#!lua flags=no-writes
-- Finds the open record of an exchange in a page of a tail stream.
-- KEYS  1 tail stream
-- ARGV  1 where the page begins   2 entries in a page   3 exchange id
-- Returns where the next page begins ("" after the last one, or once it is found), and the record if it is found.
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(page) do
  local record = {}
  for at = 1, #entry[2], 2 do record[entry[2][at]] = entry[2][at + 1] end
  if record['x'] == ARGV[3] and record['s'] == '0' then return {'', record['r']} end
end
return {#page == tonumber(ARGV[2]) and '(' .. page[#page][1] or ''}
