-- Raises log start offsets, and removes the runs below them, a bounded number in one call: the
-- caller repeats the partitions that are unfinished. Readers never see the remaining runs.
-- ARGV[3..]: partition's name, its 20 bytes, new log start offset in decimal.
-- Replies with start, high watermark and bytes of each partition, packed.
local reply, events = {}, {}
for i = 3, #ARGV, 3 do
  local name, target = ARGV[i], tonumber(ARGV[i + 2])
  local p = read_partition(name)
  if not p then
    reply[#reply + 1] = OK .. bounds_of(nil)
  elseif p.lost then
    reply[#reply + 1] = p.lost
  else
    target = math.min(target, p.hw)
    if target > p.start then
      p.start, p.is_changed = target, true
      events[#events + 1] = struct.pack('>Bc20i8', 2, ARGV[i + 1], target)
    end
    local is_finished = drop_below(p)
    if p.is_changed then
      write_partition(p)
    end
    reply[#reply + 1] = (is_finished and OK or UNFINISHED) .. bounds_of(p)
  end
end
if #events > 0 then
  publish(table.concat(events), true)
end
return {num(sequence), reply}
