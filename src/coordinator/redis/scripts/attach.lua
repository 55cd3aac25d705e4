-- Binds new metadata to the Kafka cluster, checks it otherwise, and assigns the zone's index.
-- Follows replication_id.lua.
-- KEYS[1]: the registry's meta key.
-- ARGV: metadata id of new metadata, expected metadata id or '', cluster id, zone, number of shards,
-- version of the keys. Metadata of any other version is left alone.
-- Replies with 'ok', the metadata id, the number of shards, whether the shards are marked, the
-- zone's index and all zones; or with 'other_cluster' and the bound cluster id; or with
-- 'unverified', the metadata id and the number of shards.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local zones_key = prefix .. 'zones'
local metadata_id = redis.call('HGET', meta, 'metadata_id')
local format = redis.call('HGET', meta, 'format') or '1'
if metadata_id and format ~= ARGV[6] then
  return redis.error_reply('UNSUPPORTEDFORMAT ' .. format)
end
if not metadata_id then
  if ARGV[2] ~= '' then
    return redis.error_reply('METADATALOST ' .. meta .. ' is missing, expected metadata id ' .. ARGV[2])
  end
  metadata_id = ARGV[1]
  redis.call('HSET', meta, 'metadata_id', metadata_id, 'cluster', ARGV[3], 'shards', ARGV[5], 'ready', '0', 'format', ARGV[6])
elseif ARGV[2] ~= '' and ARGV[2] ~= metadata_id then
  return redis.error_reply('METADATALOST ' .. meta .. ' has metadata id ' .. metadata_id .. ', expected ' .. ARGV[2])
end
local bound = redis.call('HMGET', meta, 'cluster', 'shards', 'ready')
if bound[1] ~= ARGV[3] then
  return {'other_cluster', bound[1]}
end
local stored = redis.call('HMGET', meta, 'replication_id', 'quarantined', 'zones')
if stored[2] then
  return redis.error_reply('METADATALOST ' .. meta .. ' ' .. stored[2])
end
local zones = redis.call('LRANGE', zones_key, 0, -1)
if #zones ~= tonumber(stored[3] or '0') then
  return redis.error_reply('METADATALOST ' .. zones_key .. ' has ' .. #zones .. ' elements, expected ' .. stored[3])
end
local index
for i, zone in ipairs(zones) do
  if zone == ARGV[4] then
    index = i - 1
  end
end
if not index then
  -- An index is permanent, so a Redis that may have lost some must not assign one.
  if bound[3] == '1' and stored[1] ~= current_replication_id() then
    return {'unverified', metadata_id, bound[2]}
  end
  index = #zones
  redis.call('RPUSH', zones_key, ARGV[4])
  zones[#zones + 1] = ARGV[4]
  -- A change as any other, so that its loss is detected; subscribers need no event of it.
  redis.call('HSET', meta, 'zones', #zones)
  local sequence = string.format('%.0f', redis.call('HINCRBY', meta, 'sequence', 1))
  redis.call('XADD', prefix .. 'events', sequence .. '-0', 'e', '', 'r', string.sub(current_replication_id(), 1, 8))
end
local reply = {'ok', metadata_id, bound[2], bound[3], string.format('%.0f', index)}
for _, zone in ipairs(zones) do
  reply[#reply + 1] = zone
end
return reply
