-- Refuses a topic's commits from now on and drops its partitions, a bounded number at a time:
-- the caller repeats until nothing is left, and other scripts run in between.
-- ARGV[3]: topic id as text; ARGV[4]: partitions to drop at most.
redis.call('SADD', prefix .. 'gone', ARGV[3])
local known = prefix .. 'k:' .. ARGV[3]
for _, name in ipairs(redis.call('SRANDMEMBER', known, ARGV[4])) do
  redis.call('UNLINK', prefix .. 'p:' .. name, prefix .. 'i:' .. name, prefix .. 't:' .. name, prefix .. 'd:' .. name)
  redis.call('SREM', known, name)
end
return {num(sequence), num(redis.call('SCARD', known))}
