-- Finds runs of partitions.
-- ARGV[3..]: partition's name, where to begin ('o' offset, 't' timestamp, 'm' greatest
-- timestamp), its value (decimal, 8 bytes, or ''), greatest number of bytes, of runs.
-- Replies with start, high watermark, bytes and runs of each partition, packed.
local WINDOW = 64

local function unpack_run(member)
  local base, count, _, _, bytes, time = struct.unpack(RUN, member)
  return base, count, bytes, time
end

-- Returns the rank of the first run whose base offset is at least `bound`; nil if there is none.
local function rank_from(index, bound)
  local first = redis.call('ZRANGEBYSCORE', index, bound, '+inf', 'LIMIT', 0, 1)[1]
  return first and redis.call('ZRANK', index, first)
end

local function rank_of_offset(index, offset)
  local below = redis.call('ZREVRANGEBYSCORE', index, offset, '-inf', 'LIMIT', 0, 1)[1]
  if below then
    local base, count = unpack_run(below)
    if base + count > tonumber(offset) then
      return redis.call('ZRANK', index, below)
    end
  end
  return rank_from(index, '(' .. offset)
end

-- Returns the last boundary below which every run is earlier than `time`, by bisection: the timestamps of the
-- entries never decrease.
local function boundary_before(times, time)
  local low, high, boundary = 0, redis.call('ZCARD', times), nil
  while low < high do
    local middle = math.floor((low + high) / 2)
    local offset, latest = struct.unpack('>i8c8', redis.call('ZRANGE', times, middle, middle)[1])
    if later(time, latest) then
      boundary, low = offset, middle + 1
    else
      high = middle
    end
  end
  return boundary
end

local function rank_of_time(name, index, time)
  local boundary = boundary_before(prefix .. 't:' .. name, time)
  local rank = rank_from(index, boundary and num(boundary) or '-inf')
  while rank do
    local window = redis.call('ZRANGE', index, rank, rank + WINDOW - 1)
    for i, member in ipairs(window) do
      local _, _, _, latest = unpack_run(member)
      if not later(time, latest) then
        return rank + i - 1
      end
    end
    rank = #window == WINDOW and rank + WINDOW or nil
  end
  return nil
end

local function collect(index, rank, bytes_max, runs_max, out)
  local bytes, count = 0, 0
  while rank do
    local window = redis.call('ZRANGE', index, rank, rank + WINDOW - 1)
    for _, member in ipairs(window) do
      if count == runs_max or (count > 0 and bytes >= bytes_max) then
        return
      end
      local _, _, size = unpack_run(member)
      bytes, count = bytes + size, count + 1
      out[#out + 1] = member
    end
    rank = #window == WINDOW and rank + WINDOW or nil
  end
end

local reply = {}
for i = 3, #ARGV, 5 do
  local name, from, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local index = prefix .. 'i:' .. name
  local p = read_partition(name)
  local rank
  if from == 'o' then
    rank = rank_of_offset(index, value)
  elseif from == 't' then
    rank = rank_of_time(name, index, value)
  else
    rank = p and p.latest and rank_from(index, num(p.holder))
  end
  local out = {bounds_of(p)}
  collect(index, rank, tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), out)
  reply[#reply + 1] = table.concat(out)
end
return {num(sequence), reply}
