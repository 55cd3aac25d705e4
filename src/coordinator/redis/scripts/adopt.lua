-- Marks a shard as part of a generation; only before the registry is ready for the first time.
-- KEYS[1]: the shard's meta key.
-- ARGV[1]: the generation.
redis.call('HSETNX', KEYS[1], 'generation', ARGV[1])
return redis.call('HGET', KEYS[1], 'generation')
