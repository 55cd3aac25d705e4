-- A partition's counters, and its sparse time index.
local COUNTERS = '>i8i8i8i8i8i8I4I4I4c8'
local NO_TIME = string.rep('\0', 8)
-- The distance of a seal time from this Redis' clock that is accepted, in milliseconds.
local CLOCK_TOLERANCE_MS = 300000
local EXPIRATION_MS, SWEEP_INTERVAL_MS = 86400000, 3600000
-- The first byte of the result of one part or partition (codec.rs).
local OK, LOST, FENCED, UNFINISHED = '\0', '\1', '\2', '\3'

-- Returns nil for a partition that was never written. 'lost' is set if it lacks keys: their numbers
-- of elements are among the counters.
local function read_partition(name)
  local packed = redis.call('HGET', prefix .. 'partitions', name)
  if not packed then
    return nil
  end
  local p = {name = name}
  p.start, p.hw, p.bytes, p.clock, p.swept, p.runs, p.times, p.producer_count, p.block_runs, p.block_latest =
    struct.unpack(COUNTERS, packed)
  local runs = p.runs > 0 and redis.call('ZCARD', prefix .. 'i:' .. name) or 0
  local times = p.times > 0 and redis.call('ZCARD', prefix .. 't:' .. name) or 0
  local producers = p.producer_count > 0 and redis.call('HLEN', prefix .. 'd:' .. name) or 0
  if runs ~= p.runs or times ~= p.times or producers ~= p.producer_count then
    p.lost = LOST .. prefix .. ' lacks keys of partition ' .. name .. ': it has ' .. num(runs) .. ' of '
      .. num(p.runs) .. ' runs, ' .. num(times) .. ' of ' .. num(p.times) .. ' times, ' .. num(producers)
      .. ' of ' .. num(p.producer_count) .. ' producers'
  end
  return p
end

local function pack_partition(p)
  return struct.pack(COUNTERS, p.start, p.hw, p.bytes, p.clock, p.swept, p.runs, p.times,
    p.producer_count, p.block_runs, p.block_runs > 0 and p.block_latest or NO_TIME)
end

local function write_partition(p)
  redis.call('HSET', prefix .. 'partitions', p.name, pack_partition(p))
end

local function bounds_of(p)
  return p and struct.pack('>i8i8i8', p.start, p.hw, p.bytes) or struct.pack('>i8i8i8', 0, 0, 0)
end

-- Every 256 runs of a partition are a block, which has an entry in the time index: the offset after
-- its last run, and the greatest timestamp of its runs. block_runs and block_latest are those of
-- the block that is not complete. Trims remove runs from the first block without changing its
-- entry, so that its timestamp is an upper bound only.
local RUNS_PER_BLOCK = 256

-- Records the timestamp of a run that was added to a partition's index.
local function note_time(p, base, count, timestamp)
  if p.block_runs == 0 or later(timestamp, p.block_latest) then
    p.block_latest = timestamp
  end
  p.block_runs = p.block_runs + 1
  if p.block_runs == RUNS_PER_BLOCK then
    local boundary = base + count
    redis.call('ZADD', prefix .. 't:' .. p.name, num(boundary), struct.pack('>i8c8', boundary, p.block_latest))
    p.times, p.block_runs = p.times + 1, 0
  end
end

local TRIM_WINDOW = 100
-- The number of runs that one call may still remove.
local runs_to_drop = 2000

-- Removes runs that end at or below the start. Returns whether none is left.
local function drop_below(p)
  local index = prefix .. 'i:' .. p.name
  while p.runs > 0 do
    if runs_to_drop <= 0 then
      return false
    end
    local window = redis.call('ZRANGE', index, 0, TRIM_WINDOW - 1)
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
      runs_to_drop, p.is_changed = runs_to_drop - dropped, true
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
