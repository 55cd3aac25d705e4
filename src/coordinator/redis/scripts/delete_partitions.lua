-- Refuses later commits to a topic and deletes its partitions. It scans a bounded number of
-- partitions: the caller repeats with the cursor until it is 0, and other scripts run in between.
-- ARGV[3]: topic id as text; ARGV[4]: the cursor; ARGV[5]: the number of partitions to scan.
local added = redis.call('SADD', prefix .. 'deleted_topics', ARGV[3])
count_elements('deleted_topics', added)
local scanned = redis.call('HSCAN', prefix .. 'partitions', ARGV[4], 'MATCH', ARGV[3] .. '-*', 'COUNT', ARGV[5])
local deleted = 0
for i = 1, #scanned[2], 2 do
  local name = scanned[2][i]
  redis.call('UNLINK', prefix .. 'i:' .. name, prefix .. 't:' .. name, prefix .. 'd:' .. name)
  deleted = deleted + redis.call('HDEL', prefix .. 'partitions', name)
end
count_elements('partitions', -deleted)
if added + deleted > 0 then
  -- A change, so that a Redis that lost it is detected; subscribers learn of it from the registry.
  publish('', true)
end
return {num(sequence), scanned[1]}
