-- Refuses later commits to a topic and deletes its partitions, a bounded number at a time: the
-- caller repeats until none is left, and other scripts run in between.
-- ARGV[3]: topic id as text; ARGV[4]: the greatest number of partitions to delete.
redis.call('SADD', prefix .. 'deleted_topics', ARGV[3])
local partitions = prefix .. 'k:' .. ARGV[3]
for _, name in ipairs(redis.call('SRANDMEMBER', partitions, ARGV[4])) do
  redis.call('UNLINK', prefix .. 'p:' .. name, prefix .. 'i:' .. name, prefix .. 't:' .. name, prefix .. 'd:' .. name)
  redis.call('SREM', partitions, name)
end
return {num(sequence), num(redis.call('SCARD', partitions))}
