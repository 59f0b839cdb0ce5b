#!lua flags=no-writes
-- Lists the exchanges that have records in a page of a tail stream, so that the records need not leave Redis.
-- KEYS  1 tail stream
-- ARGV  1 where the page begins   2 entries in a page   3 key hash: only exchanges whose open record names it; "" all
-- Returns where the next page begins ("" after the last one), and the ids.
local page = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
local found, seen = {#page == tonumber(ARGV[2]) and '(' .. page[#page][1] or ''}, {}
for _, entry in ipairs(page) do
  local record = {}
  for at = 1, #entry[2], 2 do record[entry[2][at]] = entry[2][at + 1] end
  -- The key is the first field of an open record; later fields hold text of callers.
  local head = record['s'] == '0' and string.sub(record['r'] or '', 1, 80) or ''
  local wanted = ARGV[3] == '' or string.find(head, ARGV[3], 1, true)
  local id = record['x']
  if id and wanted and not seen[id] then seen[id] = true; found[#found + 1] = id end
end
return found
