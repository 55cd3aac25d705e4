-- Replies with a bounded number of bindings, topic id as text, topic type and name: the caller
-- repeats with the cursor until it is 0.
-- ARGV[3]: the cursor; ARGV[4]: the number of bindings to scan.
local scanned = redis.call('HSCAN', prefix .. 'topics', ARGV[3], 'COUNT', ARGV[4])
return {num(sequence), scanned[1], scanned[2]}
