-- Every binding: topic id as text, kind and name.
return {num(sequence), redis.call('HGETALL', prefix .. 'topics')}
