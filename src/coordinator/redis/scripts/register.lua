-- ARGV[3]: '1' when the shards have forgotten the tombstones of the topics that are bound anew.
-- ARGV[4..]: topic id as text, as 16 bytes, kind ('c' or 'd'), name, rule ('first' or 'switch').
local gone, gone_key, topics_key = {}, prefix .. 'gone', prefix .. 'topics'
if ARGV[3] ~= '1' then
  for i = 4, #ARGV, 5 do
    if redis.call('SISMEMBER', gone_key, ARGV[i]) == 1 then
      gone[#gone + 1] = ARGV[i]
    end
  end
  if #gone > 0 then
    return {num(sequence), 'gone', gone}
  end
end
local bindings, events = {}, {}
for i = 4, #ARGV, 5 do
  local text, id, kind, name, rule = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local bound = redis.call('HGET', topics_key, text)
  local wanted
  if not bound then
    wanted = kind .. name
    redis.call('SREM', gone_key, text)
  elseif rule == 'switch' and kind == 'd' and string.sub(bound, 1, 1) == 'c' then
    wanted = 'd' .. string.sub(bound, 2)
  end
  if wanted then
    redis.call('HSET', topics_key, text, wanted)
    events[#events + 1] = struct.pack('>Bc16I4', 3, id, #wanted) .. wanted
    bound = wanted
  end
  bindings[#bindings + 1] = bound
end
if #events > 0 then
  announce(table.concat(events))
end
return {num(sequence), 'bound', bindings}
