-- Replies with a partition's clock, and a bounded number of its producers: the caller repeats with
-- the cursor until it is 0.
-- ARGV[3]: the partition's name; ARGV[4]: the cursor; ARGV[5]: the number of producers to scan.
local p = read_partition(ARGV[3])
if p and p.lost then
  return {num(sequence), p.lost}
end
local clock = p and num(math.max(p.clock, now_ms() - CLOCK_TOLERANCE_MS)) or ''
local scanned = {'0', {}}
if p and p.producer_count > 0 then
  scanned = redis.call('HSCAN', prefix .. 'd:' .. p.name, ARGV[4], 'COUNT', ARGV[5])
end
return {num(sequence), OK, clock, scanned[1], scanned[2]}
