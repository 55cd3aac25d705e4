-- Deletes a topic's binding, after every shard deleted its partitions.
-- ARGV[3]: topic id as text; ARGV[4]: as 16 bytes.
if redis.call('SADD', prefix .. 'deleted_topics', ARGV[3]) == 1 then
  count_elements('deleted_topics', 1)
  count_elements('topics', -redis.call('HDEL', prefix .. 'topics', ARGV[3]))
  publish(struct.pack('>Bc16', 4, ARGV[4]))
end
return {num(sequence)}
