-- Deletes expired producers, also of partitions that are no longer written, and the runs below the
-- log start offset that a trim left behind whose caller ended. This has no visible effect: they
-- count as unknown already, and as removed. Scans a bounded number of partitions and producers: the
-- caller repeats with the reply until both cursors are 0.
-- ARGV[3]: cursor over the partitions; ARGV[4]: cursor over the producers of partition ARGV[5].
-- Replies with both cursors, the partition's name, and the number of deleted producers.
local PARTITIONS_PER_CALL, PRODUCERS_PER_CALL = 100, 500
local removed, scanned_producers = 0, 0

-- Scans producers of one partition from the cursor; returns the next cursor.
local function sweep(p, cursor)
  local key, clock = prefix .. 'd:' .. p.name, math.max(p.clock, now_ms() - CLOCK_TOLERANCE_MS)
  local scanned = redis.call('HSCAN', key, cursor, 'COUNT', PRODUCERS_PER_CALL)
  local expired = {}
  for i = 1, #scanned[2], 2 do
    local _, last_append = struct.unpack('>I2i8', scanned[2][i + 1])
    if clock - last_append >= EXPIRATION_MS then
      expired[#expired + 1] = scanned[2][i]
    end
  end
  scanned_producers = scanned_producers + #scanned[2] / 2
  if #expired > 0 then
    local deleted = redis.call('HDEL', key, unpack(expired))
    removed, p.producer_count = removed + deleted, p.producer_count - deleted
  end
  if scanned[1] == '0' then
    p.swept = clock
  end
  if #expired > 0 or scanned[1] == '0' then
    write_partition(p)
  end
  return scanned[1]
end

if ARGV[4] ~= '0' then
  local p = read_partition(ARGV[5])
  local cursor = '0'
  if p and not p.lost and p.producer_count > 0 then
    cursor = sweep(p, ARGV[4])
  end
  return {num(sequence), ARGV[3], cursor, ARGV[5], num(removed)}
end
local scanned = redis.call('HSCAN', prefix .. 'partitions', ARGV[3], 'COUNT', PARTITIONS_PER_CALL)
for i = 1, #scanned[2], 2 do
  local start, _, _, clock, swept, runs, _, producer_count = struct.unpack(COUNTERS, scanned[2][i + 1])
  if runs > 0 and start > 0 and runs_to_drop > 0 then
    local first = redis.call('ZRANGE', prefix .. 'i:' .. scanned[2][i], 0, 0)[1]
    local base, count = start, 1
    if first then
      base, count = struct.unpack(RUN, first)
    end
    local p = base + count <= start and read_partition(scanned[2][i])
    if p and not p.lost then
      drop_below(p)
      write_partition(p)
    end
  end
  clock = math.max(clock, now_ms() - CLOCK_TOLERANCE_MS)
  -- What does not fit into this call is left for the next pass.
  if producer_count > 0 and clock - swept >= SWEEP_INTERVAL_MS and scanned_producers < PRODUCERS_PER_CALL then
    local p = read_partition(scanned[2][i])
    if not p.lost then
      local cursor = sweep(p, '0')
      if cursor ~= '0' then
        return {num(sequence), scanned[1], cursor, p.name, num(removed)}
      end
    end
  end
end
return {num(sequence), scanned[1], '0', '', num(removed)}
