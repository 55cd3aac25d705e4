-- Writes the metadata id and the version of the keys into a shard; runs only until the registry is ready.
-- KEYS[1]: the shard's meta key.
-- ARGV[1]: the metadata id; ARGV[2]: the version.
if redis.call('HSETNX', KEYS[1], 'metadata_id', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[1], 'format', ARGV[2])
end
return redis.call('HGET', KEYS[1], 'metadata_id')
