-- Replies with every binding: topic id as text, topic type and name.
return {num(sequence), redis.call('HGETALL', prefix .. 'topics')}
