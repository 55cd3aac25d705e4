-- Every shard is marked: from now on a missing marker is lost metadata.
redis.call('HSET', meta, 'ready', '1')
return {num(sequence)}
