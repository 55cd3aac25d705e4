-- Binds topic ids; one that was forgotten stays so, and is answered ''.
-- ARGV[3..]: topic id as text, as 16 bytes, kind ('c', 'd' or 's'), name, rule ('first' or 'switch').
local gone_key, topics_key = prefix .. 'gone', prefix .. 'topics'
local bindings, events = {}, {}
for i = 3, #ARGV, 5 do
  local text, id, kind, name, rule = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local bound = redis.call('HGET', topics_key, text)
  local wanted
  if not bound then
    if redis.call('SISMEMBER', gone_key, text) == 1 then
      bound = ''
    else
      wanted = kind .. name
    end
  elseif rule == 'switch' then
    local from = string.sub(bound, 1, 1)
    if (from == 'c' and kind == 's') or (from == 's' and kind ~= 's') then
      wanted = kind .. string.sub(bound, 2)
    end
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
return {num(sequence), bindings}
