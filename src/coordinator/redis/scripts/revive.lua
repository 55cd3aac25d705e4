-- Takes the tombstones of topics away that are about to be bound anew.
-- ARGV[3..]: topic ids as text.
for i = 3, #ARGV do
  redis.call('SREM', prefix .. 'gone', ARGV[i])
end
return {num(sequence)}
