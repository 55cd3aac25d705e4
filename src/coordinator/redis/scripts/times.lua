-- The sparse time index, for commit.lua and trim.lua.
-- Each partition keeps the greatest timestamp so far ('x'), the base offset of the first run that
-- holds it ('m'), and how many runs joined since the last entry ('n'). An entry (offset,
-- timestamp) says: no run below the offset is later than the timestamp.
local RUNS_PER_ENTRY = 64

-- Notes a run that joined a partition's index; p has the fields latest, holder and uncovered.
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
