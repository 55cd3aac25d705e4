-- Raises log start offsets.
-- ARGV[3..]: partition's name, its 20 bytes, new log start offset in decimal.
-- Replies with start, high watermark and bytes of each partition, packed.
local WINDOW = 128

-- Deletes the runs below the start; returns the base offset of the first remaining run, or nil.
local function drop_below(index, p)
  while true do
    local window = redis.call('ZRANGE', index, 0, WINDOW - 1)
    local dropped = 0
    for _, member in ipairs(window) do
      local base, count, _, _, bytes = struct.unpack(RUN, member)
      if base + count > p.start then
        break
      end
      dropped, p.bytes = dropped + 1, p.bytes - bytes
    end
    if dropped > 0 then
      redis.call('ZREMRANGEBYRANK', index, 0, dropped - 1)
    end
    if dropped < WINDOW then
      local first = window[dropped + 1]
      return first and struct.unpack('>i8', first)
    end
  end
end

-- Rebuilds the time index after the run with the greatest timestamp was deleted. This is rare:
-- timestamps mostly rise with the offsets, and then that run is among the last to be deleted.
local function rebuild_times(index, p)
  redis.call('DEL', prefix .. 't:' .. p.name)
  p.latest, p.holder, p.uncovered = nil, 0, 0
  local rank = 0
  repeat
    local window = redis.call('ZRANGE', index, rank, rank + WINDOW - 1)
    for _, member in ipairs(window) do
      local base, count, _, _, _, time = struct.unpack(RUN, member)
      note_time(p, base, count, time)
    end
    rank = rank + WINDOW
  until #window < WINDOW
end

local function trim(name, start)
  local index, p = prefix .. 'i:' .. name, read_partition(name)
  local target = p and math.min(start, p.hw)
  if not p or target <= p.start then
    return bounds_of(p), nil
  end
  p.start = target
  local first = drop_below(index, p)
  if not first or p.holder < first then
    rebuild_times(index, p)
  else
    redis.call('ZREMRANGEBYSCORE', prefix .. 't:' .. name, '-inf', num(first))
  end
  write_partition(p)
  return bounds_of(p), p.start
end

local reply, events = {}, {}
for i = 3, #ARGV, 3 do
  local bounds, risen = trim(ARGV[i], tonumber(ARGV[i + 2]))
  reply[#reply + 1] = bounds
  if risen then
    events[#events + 1] = struct.pack('>Bc20i8', 2, ARGV[i + 1], risen)
  end
end
if #events > 0 then
  publish(table.concat(events))
end
return {num(sequence), reply}
