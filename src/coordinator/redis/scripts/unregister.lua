-- Forgets a topic's binding, after every shard forgot its partitions.
-- ARGV[3]: topic id as text; ARGV[4]: as 16 bytes.
if redis.call('SADD', prefix .. 'gone', ARGV[3]) == 1 then
  redis.call('HDEL', prefix .. 'topics', ARGV[3])
  announce(struct.pack('>Bc16', 4, ARGV[4]))
end
return {num(sequence)}
