-- KEYS[1]: the registry's meta key.
-- ARGV: generation to begin with, expected generation or '', cluster id, zone, number of shards.
local meta = KEYS[1]
local zones_key = string.sub(meta, 1, -5) .. 'zones'
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
local zones = redis.call('LRANGE', zones_key, 0, -1)
local index
for i, zone in ipairs(zones) do
  if zone == ARGV[4] then
    index = i - 1
  end
end
if not index then
  index = #zones
  redis.call('RPUSH', zones_key, ARGV[4])
  zones[#zones + 1] = ARGV[4]
end
local reply = {'ok', generation, bound[2], bound[3], string.format('%.0f', index)}
for _, zone in ipairs(zones) do
  reply[#reply + 1] = zone
end
return reply
