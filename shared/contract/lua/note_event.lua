#!lua
-- Notes an event, once by its id. Without allow-oom: a full Redis has no room for what may be lost.
-- KEYS  1 events, a stream   2 the mark of this one
-- ARGV  1 event   2 most events that are kept   3 seconds for which its id is remembered
-- Returns 1, or 0 where it was noted before.
if not redis.call('SET', KEYS[2], '', 'NX', 'EX', ARGV[3]) then return 0 end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[1])
return 1
