-- ARGV[3]: the partition's name.
local clock = redis.call('HGET', prefix .. 'p:' .. ARGV[3], 'c')
return {num(sequence), clock or '', redis.call('HGETALL', prefix .. 'd:' .. ARGV[3])}
