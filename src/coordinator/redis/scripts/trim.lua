-- Raises log start offsets, and removes the runs below them, a bounded number in one call: the
-- caller repeats the partitions that are unfinished. Readers never see the remaining runs.
-- ARGV[3..]: partition's name, its 20 bytes, new log start offset in decimal.
-- Replies with start, high watermark and bytes of each partition, packed.
local WINDOW = 100
local RUNS_PER_CALL = 2000
local budget = RUNS_PER_CALL

-- Removes runs that end at or below the start. Returns whether none is left.
local function drop_below(p)
  local index = prefix .. 'i:' .. p.name
  while p.runs > 0 do
    if budget <= 0 then
      return false
    end
    local window = redis.call('ZRANGE', index, 0, WINDOW - 1)
    local dropped, first = 0, nil
    for _, member in ipairs(window) do
      local base, count, _, _, bytes = struct.unpack(RUN, member)
      if base + count > p.start then
        first = base
        break
      end
      dropped, p.bytes = dropped + 1, p.bytes - bytes
    end
    if dropped > 0 then
      p.runs = p.runs - redis.call('ZREMRANGEBYRANK', index, 0, dropped - 1)
      budget, p.is_changed = budget - dropped, true
    end
    if first then
      if p.times > 0 then
        p.times = p.times - redis.call('ZREMRANGEBYSCORE', prefix .. 't:' .. p.name, '-inf', num(first))
      end
      return true
    end
  end
  if p.times > 0 then
    redis.call('UNLINK', prefix .. 't:' .. p.name)
  end
  p.times, p.block_runs = 0, 0
  return true
end

local reply, events = {}, {}
for i = 3, #ARGV, 3 do
  local name, target = ARGV[i], tonumber(ARGV[i + 2])
  local p = read_partition(name)
  if not p then
    reply[#reply + 1] = OK .. bounds_of(nil)
  elseif p.lost then
    reply[#reply + 1] = p.lost
  else
    target = math.min(target, p.hw)
    if target > p.start then
      p.start, p.is_changed = target, true
      events[#events + 1] = struct.pack('>Bc20i8', 2, ARGV[i + 1], target)
    end
    local is_finished = drop_below(p)
    if p.is_changed then
      write_partition(p)
    end
    reply[#reply + 1] = (is_finished and OK or UNFINISHED) .. bounds_of(p)
  end
end
if #events > 0 then
  publish(table.concat(events))
end
return {num(sequence), reply}
