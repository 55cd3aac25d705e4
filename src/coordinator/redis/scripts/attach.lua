-- Follows life.lua.
-- KEYS[1]: the registry's meta key.
-- ARGV: generation to begin with, expected generation or '', cluster id, zone, number of shards.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local zones_key = prefix .. 'zones'
local generation = redis.call('HGET', meta, 'generation')
if not generation then
  if ARGV[2] ~= '' then
    return redis.error_reply('ODRADEKLOST ' .. meta .. ' is missing, generation ' .. ARGV[2] .. ' was expected')
  end
  generation = ARGV[1]
  redis.call('HSET', meta, 'generation', generation, 'cluster', ARGV[3], 'shards', ARGV[5], 'ready', '0')
elseif ARGV[2] ~= '' and ARGV[2] ~= generation then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' is of generation ' .. generation .. ', not ' .. ARGV[2])
end
local bound = redis.call('HMGET', meta, 'cluster', 'shards', 'ready')
if bound[1] ~= ARGV[3] then
  return {'other', bound[1]}
end
local marker = redis.call('HMGET', meta, 'life', 'condemned')
if marker[2] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' ' .. marker[2])
end
local zones = redis.call('LRANGE', zones_key, 0, -1)
local index
for i, zone in ipairs(zones) do
  if zone == ARGV[4] then
    index = i - 1
  end
end
if not index then
  -- An index is given once and for ever: not by a Redis that may have forgotten some.
  if bound[3] == '1' and marker[1] ~= current_life() then
    return {'unsettled', generation, bound[2]}
  end
  index = #zones
  redis.call('RPUSH', zones_key, ARGV[4])
  zones[#zones + 1] = ARGV[4]
  -- A change like any other, so that its loss is noticed; followers need to know nothing of it.
  local sequence = string.format('%.0f', redis.call('HINCRBY', meta, 'sequence', 1))
  redis.call('XADD', prefix .. 'log', 'MAXLEN', '~', 16384, sequence .. '-0', 'e', '', 'l', string.sub(current_life(), 1, 8))
end
local reply = {'ok', generation, bound[2], bound[3], string.format('%.0f', index)}
for _, zone in ipairs(zones) do
  reply[#reply + 1] = zone
end
return reply
