-- Finds runs of partitions.
-- ARGV[3..]: partition's name, where to begin ('o' offset, 't' timestamp, 'm' greatest
-- timestamp), its value (decimal, 8 bytes, or ''), greatest number of bytes, of runs.
-- Replies with start, high watermark, bytes and runs of each partition, packed.
local WINDOW = 64

local function unpack_run(member)
  local base, count, _, _, bytes, time = struct.unpack(RUN, member)
  return base, count, bytes, time
end

-- Returns the rank of the first run that ends above `offset`, and the run; nil if there is none.
local function rank_of_offset(index, offset)
  local below = redis.call('ZREVRANGEBYSCORE', index, num(offset), '-inf', 'LIMIT', 0, 1)[1]
  if below then
    local base, count = unpack_run(below)
    if base + count > offset then
      return redis.call('ZRANK', index, below), base
    end
  end
  local above = redis.call('ZRANGEBYSCORE', index, '(' .. num(offset), '+inf', 'LIMIT', 0, 1)[1]
  if above then
    return redis.call('ZRANK', index, above), unpack_run(above)
  end
end

-- Calls `visit` with the rank, timestamp and base offset of the runs from `rank` on whose base
-- offset is below `boundary` (nil: all). Ends, and returns its result, once that is not nil.
local function each_run(index, rank, boundary, visit)
  while rank do
    local window = redis.call('ZRANGE', index, rank, rank + WINDOW - 1)
    for i, member in ipairs(window) do
      local base, _, _, time = unpack_run(member)
      if boundary and base >= boundary then
        return nil
      end
      local result = visit(rank + i - 1, time)
      if result ~= nil then
        return result
      end
    end
    rank = #window == WINDOW and rank + WINDOW or nil
  end
end

-- Calls `visit` with each block: the rank of its first run above the log start offset is that of
-- `start`, and `latest` is nil for the last block, which is not complete.
local function each_block(p, visit)
  local start, at, is_first = p.start, 0, true
  while at < p.times do
    local window = redis.call('ZRANGE', prefix .. 't:' .. p.name, at, at + WINDOW - 1)
    for _, entry in ipairs(window) do
      local boundary, latest = struct.unpack('>i8c8', entry)
      if boundary > start then
        local result = visit(start, boundary, latest, is_first)
        if result ~= nil then
          return result
        end
        start, is_first = boundary, false
      end
    end
    at = at + WINDOW
  end
  if start < p.hw then
    return visit(start, nil, nil, is_first)
  end
end

local function rank_of_time(p, index, time)
  local function at_least(rank, latest)
    return not later(time, latest) and rank or nil
  end
  return each_block(p, function(start, boundary, latest)
    if not latest or not later(time, latest) then
      return each_run(index, (rank_of_offset(index, start)), boundary, at_least)
    end
  end)
end

local function greatest_time(p, index)
  local greatest
  local function note(time)
    if not greatest or later(time, greatest) then
      greatest = time
    end
  end
  each_block(p, function(start, boundary, latest, is_first)
    -- The entry of the first block may be that of a run that was trimmed.
    if latest and not is_first then
      note(latest)
    else
      each_run(index, (rank_of_offset(index, start)), boundary, function(_, time)
        note(time)
      end)
    end
  end)
  return greatest
end

local function collect(index, rank, bytes_max, runs_max, out)
  local bytes, count = 0, 0
  while rank do
    local window = redis.call('ZRANGE', index, rank, rank + math.min(WINDOW, runs_max - count) - 1)
    for _, member in ipairs(window) do
      if count == runs_max or (count > 0 and bytes >= bytes_max) then
        return
      end
      local _, _, size = unpack_run(member)
      bytes, count = bytes + size, count + 1
      out[#out + 1] = member
    end
    rank = count < runs_max and #window == WINDOW and rank + WINDOW or nil
  end
end

local function find(p, from, value, bytes_max, runs_max)
  local index = prefix .. 'i:' .. p.name
  local rank
  if from == 'o' then
    local offset = math.max(tonumber(value), p.start)
    if offset < p.hw then
      local base
      rank, base = rank_of_offset(index, offset)
      -- Runs are contiguous: an offset below the high watermark is in one.
      if not rank or base > offset then
        return LOST .. index .. ' has no run of offset ' .. num(offset) .. ', below the high watermark ' .. num(p.hw)
      end
    end
  elseif from == 't' then
    rank = rank_of_time(p, index, value)
  else
    local greatest = greatest_time(p, index)
    rank = greatest and rank_of_time(p, index, greatest)
  end
  local out = {OK, bounds_of(p)}
  if runs_max > 0 then
    collect(index, rank, bytes_max, runs_max, out)
  end
  return table.concat(out)
end

local reply = {}
for i = 3, #ARGV, 5 do
  local p = read_partition(ARGV[i])
  if not p then
    reply[#reply + 1] = OK .. bounds_of(nil)
  else
    reply[#reply + 1] = p.lost
      or find(p, ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]))
  end
end
return {num(sequence), reply}
