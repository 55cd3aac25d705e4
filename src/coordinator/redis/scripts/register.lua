-- Binds topic ids to topic types. A deleted topic is not bound again, and its result is ''.
-- ARGV[3..]: topic id as text, as 16 bytes, topic type ('c', 'd' or 'm'), name, rule ('first' or 'migrate').
local deleted_key, topics_key = prefix .. 'deleted_topics', prefix .. 'topics'
local bindings, events = {}, {}
for i = 3, #ARGV, 5 do
  local text, id, topic_type, name, rule = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local bound = redis.call('HGET', topics_key, text)
  local new
  if not bound then
    if redis.call('SISMEMBER', deleted_key, text) == 1 then
      bound = ''
    else
      new = topic_type .. name
    end
  elseif rule == 'migrate' then
    local from = string.sub(bound, 1, 1)
    if (from == 'c' and topic_type == 'm') or (from == 'm' and topic_type ~= 'm') then
      new = topic_type .. string.sub(bound, 2)
    end
  end
  if new then
    count_elements('topics', redis.call('HSET', topics_key, text, new))
    events[#events + 1] = struct.pack('>Bc16I4', 3, id, #new) .. new
    bound = new
  end
  bindings[#bindings + 1] = bound
end
if #events > 0 then
  publish(table.concat(events))
end
return {num(sequence), bindings}
