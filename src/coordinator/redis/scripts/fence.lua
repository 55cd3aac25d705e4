-- The fence of a process: the lowest sequence of its objects that may still be committed here, and
-- the stored outcomes of the objects at or above it.
-- Outcomes are fields of one hash for each process, by sequence (4 bytes).
local FENCED_FOR_EVER = 4294967295
local FENCE = '>I4I4I4'
-- The greatest number of outcomes that one call removes.
local OUTCOMES_PER_CALL = 500

-- 'process': 12 bytes; 'text': the same as text.
local function read_fence(process, text)
  local packed = redis.call('HGET', prefix .. 'fence', process)
  local fence = {process = process, key = prefix .. 'o:' .. text, lowest = 0, swept = 0, count = 0, packed = packed}
  if packed then
    fence.lowest, fence.swept, fence.count = struct.unpack(FENCE, packed)
  end
  if fence.count > 0 then
    local found = redis.call('HLEN', fence.key)
    if found ~= fence.count then
      fence.lost = LOST .. fence.key .. ' has ' .. num(found) .. ' outcomes, expected ' .. num(fence.count)
    end
  end
  return fence
end

local function write_fence(fence)
  local packed = struct.pack(FENCE, fence.lowest, fence.swept, fence.count)
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
  local below, is_complete = {}, true
  if fence.lowest - fence.swept <= OUTCOMES_PER_CALL then
    for sequence = fence.swept, fence.lowest - 1 do
      below[#below + 1] = struct.pack('>I4', sequence)
    end
  else
    -- The process wrote many objects without parts in this shard.
    local scanned = redis.call('HSCAN', fence.key, '0', 'COUNT', OUTCOMES_PER_CALL)
    is_complete = scanned[1] == '0'
    for i = 1, #scanned[2], 2 do
      if struct.unpack('>I4', scanned[2][i]) < fence.lowest then
        below[#below + 1] = scanned[2][i]
      end
    end
  end
  if #below > 0 then
    fence.count = fence.count - redis.call('HDEL', fence.key, unpack(below))
  end
  if is_complete then
    fence.swept = fence.lowest
  end
end
