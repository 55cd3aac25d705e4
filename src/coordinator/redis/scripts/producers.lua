-- Replies with a partition's clock and its producers.
-- ARGV[3]: the partition's name.
local p = read_partition(ARGV[3])
return {num(sequence), p and num(p.clock) or '', redis.call('HGETALL', prefix .. 'd:' .. ARGV[3])}
