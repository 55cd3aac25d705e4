-- Finds runs of partitions.
-- ARGV[3..]: partition's name, where to begin ('o' offset, 't' timestamp, 'm' greatest
-- timestamp), its value (decimal, 8 bytes, or ''), greatest number of bytes, of runs, and the cursor
-- of an earlier reply or ''.
-- Replies with start, high watermark, bytes and runs of each partition, packed; or, for those that
-- do not fit into this call, with a cursor: the caller repeats them.
local WINDOW = 64
-- The number of runs and of blocks that one call reads; it may exceed it by those of one partition.
local READS_PER_CALL = 4000
local budget = READS_PER_CALL

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
      budget = budget - 1
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

-- Calls `visit` with each block from offset `start` on: the offset of its first run, its boundary
-- and its greatest timestamp, which are nil for the last block, because it is not complete. Returns
-- the first result of `visit` that is not nil; else nil and the offset at which a later call
-- continues, which is nil at the end.
local function each_block(p, start, visit)
  repeat
    local window = redis.call('ZRANGEBYSCORE', prefix .. 't:' .. p.name, '(' .. num(start), '+inf', 'LIMIT', 0, WINDOW)
    for _, entry in ipairs(window) do
      if budget <= 0 then
        return nil, start
      end
      budget = budget - 1
      local boundary, latest = struct.unpack('>i8c8', entry)
      local result = visit(start, boundary, latest)
      if result ~= nil then
        return result
      end
      start = boundary
    end
  until #window < WINDOW
  if start < p.hw then
    return visit(start)
  end
end

-- Returns the rank of the first run from offset `start` on that has this timestamp or a later one;
-- or nil, and where a later call continues.
local function rank_of_time(p, index, time, start)
  local function at_least(rank, latest)
    return not later(time, latest) and rank or nil
  end
  return each_block(p, start, function(from, boundary, latest)
    if not latest or not later(time, latest) then
      return each_run(index, (rank_of_offset(index, from)), boundary, at_least)
    end
  end)
end

-- Returns the greatest timestamp from offset `start` on or, if it is not less, `greatest`; the
-- offset of the first block that has it; and where a later call continues.
local function greatest_time(p, index, start, greatest, block)
  local function note(time, from)
    if not greatest or later(time, greatest) then
      greatest, block = time, from
    end
  end
  local _, resume = each_block(p, start, function(from, boundary, latest)
    -- The entry of the first block may be that of a run that was trimmed.
    if latest and from > p.start then
      note(latest, from)
    else
      each_run(index, (rank_of_offset(index, from)), boundary, function(_, time)
        note(time, from)
      end)
    end
  end)
  return greatest, block, resume
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
      bytes, count, budget = bytes + size, count + 1, budget - 1
      out[#out + 1] = member
    end
    rank = count < runs_max and #window == WINDOW and rank + WINDOW or nil
  end
end

local function find(p, from, value, bytes_max, runs_max, cursor)
  local index = prefix .. 'i:' .. p.name
  local rank, resume
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
    local start = cursor ~= '' and struct.unpack('>i8', cursor) or 0
    rank, resume = rank_of_time(p, index, value, math.max(start, p.start))
    if resume then
      return UNFINISHED .. struct.pack('>i8', resume)
    end
  else
    local start, greatest, block = 0, nil, nil
    if cursor ~= '' then
      start, greatest, block = struct.unpack('>i8c8i8', cursor)
    end
    greatest, block, resume = greatest_time(p, index, math.max(start, p.start), greatest, block)
    if resume then
      return UNFINISHED .. struct.pack('>i8c8i8', resume, greatest, block)
    end
    -- The greatest timestamp is in the first block that is read now.
    budget = math.max(budget, 1)
    rank = greatest and rank_of_time(p, index, greatest, math.max(block, p.start))
    -- It was trimmed since an earlier call.
    if cursor ~= '' and not rank and p.start < p.hw then
      return UNFINISHED
    end
  end
  local out = {OK, bounds_of(p)}
  if runs_max > 0 then
    collect(index, rank, bytes_max, runs_max, out)
  end
  return table.concat(out)
end

local reply = {}
for i = 3, #ARGV, 6 do
  local from, value, cursor = ARGV[i + 1], ARGV[i + 2], ARGV[i + 5]
  if budget <= 0 then
    reply[#reply + 1] = UNFINISHED .. cursor
  else
    local p = read_partition(ARGV[i])
    if not p then
      reply[#reply + 1] = OK .. bounds_of(nil)
    else
      reply[#reply + 1] = p.lost or find(p, from, value, tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]), cursor)
    end
  end
end
return {num(sequence), reply}
