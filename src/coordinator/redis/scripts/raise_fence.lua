-- Raises the fence of a process on behalf of another one.
-- ARGV[3]: the process as text; ARGV[4]: as 12 bytes; ARGV[5]: the lowest sequence that it may still
-- commit. The greatest 32-bit number lets it commit nothing.
local fence = read_fence(ARGV[4], ARGV[3])
if tonumber(ARGV[5]) > fence.lowest then
  fence.lowest = tonumber(ARGV[5])
  sweep_outcomes(fence)
  write_fence(fence)
  -- A change, so that a Redis that lost it is detected; subscribers need no event of it.
  publish('')
end
return {num(sequence)}
