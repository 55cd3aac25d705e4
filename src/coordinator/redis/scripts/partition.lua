-- A partition's counters, and its sparse time index.
local COUNTERS = '>i8i8i8i8i8i8i8c8'
local NO_TIME = string.rep('\0', 8)

-- Returns nil for a partition that was never written.
local function read_partition(name)
  local packed = redis.call('GET', prefix .. 'p:' .. name)
  if not packed then
    return nil
  end
  local p = {name = name}
  p.start, p.hw, p.bytes, p.clock, p.swept, p.holder, p.uncovered, p.latest = struct.unpack(COUNTERS, packed)
  if p.holder < 0 then
    p.latest = nil
  end
  return p
end

local function write_partition(p)
  local holder = p.latest and p.holder or -1
  redis.call('SET', prefix .. 'p:' .. p.name, struct.pack(
    COUNTERS, p.start, p.hw, p.bytes, p.clock, p.swept, holder, p.uncovered, p.latest or NO_TIME))
end

local function bounds_of(p)
  return p and struct.pack('>i8i8i8', p.start, p.hw, p.bytes) or struct.pack('>i8i8i8', 0, 0, 0)
end

-- Each partition keeps the greatest timestamp so far (latest), the base offset of the first run
-- that holds it (holder), and how many runs were added since the last entry of the time index
-- (uncovered). An entry (offset, timestamp) says: no run below the offset is later than that.
local RUNS_PER_ENTRY = 64

-- Records the timestamp of a run that was added to a partition's index.
local function note_time(p, base, count, timestamp)
  if not p.latest or later(timestamp, p.latest) then
    p.latest, p.holder = timestamp, base
  end
  p.uncovered = p.uncovered + 1
  if p.uncovered == RUNS_PER_ENTRY then
    local boundary = base + count
    redis.call('ZADD', prefix .. 't:' .. p.name, num(boundary), struct.pack('>i8c8', boundary, p.latest))
    p.uncovered = 0
  end
end
