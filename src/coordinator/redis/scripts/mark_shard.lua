-- Writes the metadata id into a shard; runs only until the registry is ready.
-- KEYS[1]: the shard's meta key.
-- ARGV[1]: the metadata id.
redis.call('HSETNX', KEYS[1], 'metadata_id', ARGV[1])
return redis.call('HGET', KEYS[1], 'metadata_id')
