#!lua flags=no-writes
-- Reads totals of one shard together with how far its ledger goes, from which a scope starts.
-- KEYS  1 ledger stream   2.. hashes of totals
-- Returns {id of the last entry, fields and values of each hash}; "0-0" where the ledger is empty.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local found = {last and last[1] or '0-0'}
for at = 2, #KEYS do found[at] = redis.call('HGETALL', KEYS[at]) end
return found
