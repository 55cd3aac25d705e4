-- The fence of a process: the lowest sequence of its objects that may still be committed here, and
-- the stored outcomes of the objects at or above it. The newest sequence that was committed here is
-- stored too, and the one below which outcomes are lost.
-- Outcomes are fields of one hash for each process: one for each object and 256 indexes of its
-- parts, so that a call reads and writes few of them. The name of the field is the object's sequence
-- (4 bytes), and the number of the group (4 bytes) if that is not 0.
local FENCED_FOR_EVER = 4294967295
local FENCE = '>I4I4I4I4I4'
local PARTS_PER_GROUP = 256
-- The number of fields that one call removes; it may exceed it by those of one object.
local OUTCOMES_PER_CALL = 500
-- Even. Lua's stack has room for about 8,000 arguments.
local UNPACK_MAX = 1000

local function group_field(sequence, number)
  return number == 0 and sequence or sequence .. struct.pack('>I4', number)
end

-- The field with the number of an object's last group, which exists if that is not 0.
local function last_group_field(sequence)
  return sequence .. 'n'
end

-- 'process': 12 bytes; 'text': the same as text.
local function read_fence(process, text)
  local packed = redis.call('HGET', prefix .. 'fence', process)
  local fence = {process = process, key = prefix .. 'o:' .. text, lowest = 0, swept = 0, count = 0, newest = 0, lost_below = 0, packed = packed}
  if packed then
    -- A record of an earlier program lacks the last values.
    packed = packed .. string.rep('\255', 16 - #packed)
    packed = packed .. string.rep('\0', 20 - #packed)
    fence.lowest, fence.swept, fence.count, fence.newest, fence.lost_below = struct.unpack(FENCE, packed)
  end
  if fence.count > 0 then
    local found = redis.call('HLEN', fence.key)
    if found ~= fence.count then
      -- Outcomes are lost. Any object up to the newest one may have been committed, so that none of
      -- them can be any more; later ones were not. This is stored, because the number of outcomes
      -- is right again with the next one.
      fence.count, fence.lost_below = found, math.min(math.max(fence.lost_below, fence.newest + 1), FENCED_FOR_EVER)
    end
  end
  return fence
end

local function write_fence(fence)
  local packed = struct.pack(FENCE, fence.lowest, fence.swept, fence.count, fence.newest, fence.lost_below)
  if packed ~= fence.packed then
    count_elements('fence', redis.call('HSET', prefix .. 'fence', fence.process, packed))
  end
end

-- Removes outcomes below the fence, a bounded number of them.
local function sweep_outcomes(fence)
  if fence.swept >= fence.lowest then
    return
  end
  if fence.lowest == FENCED_FOR_EVER then
    redis.call('UNLINK', fence.key)
    fence.count = 0
  end
  if fence.count == 0 then
    fence.swept = fence.lowest
    return
  end
  local below, swept = {}, fence.lowest
  if fence.lowest - fence.swept <= OUTCOMES_PER_CALL then
    local sequences, last_groups = {}, {}
    for sequence = fence.swept, fence.lowest - 1 do
      sequences[#sequences + 1] = struct.pack('>I4', sequence)
      last_groups[#last_groups + 1] = last_group_field(sequences[#sequences])
    end
    last_groups = redis.call('HMGET', fence.key, unpack(last_groups))
    for i, sequence in ipairs(sequences) do
      if #below >= OUTCOMES_PER_CALL then
        swept = fence.swept + i - 1
        break
      end
      below[#below + 1] = sequence
      if last_groups[i] then
        below[#below + 1] = last_group_field(sequence)
        for number = 1, tonumber(last_groups[i]) do
          below[#below + 1] = group_field(sequence, number)
        end
      end
    end
  else
    -- The process wrote many objects without parts in this shard.
    local scanned = redis.call('HSCAN', fence.key, '0', 'COUNT', OUTCOMES_PER_CALL)
    if scanned[1] ~= '0' then
      swept = fence.swept
    end
    for i = 1, #scanned[2], 2 do
      if struct.unpack('>I4', scanned[2][i]) < fence.lowest then
        below[#below + 1] = scanned[2][i]
      end
    end
  end
  for i = 1, #below, UNPACK_MAX do
    fence.count = fence.count - redis.call('HDEL', fence.key, unpack(below, i, math.min(i + UNPACK_MAX - 1, #below)))
  end
  fence.swept = swept
end
