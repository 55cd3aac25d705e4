-- Marks the registry as ready: every shard has the metadata id, and from now on a shard without
-- one is lost metadata.
redis.call('HSET', meta, 'ready', '1')
return {num(sequence)}
