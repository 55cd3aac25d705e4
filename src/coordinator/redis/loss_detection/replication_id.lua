-- The replication id of this Redis. A new one is drawn at every start of a master and at every
-- promotion of a replica, so that it differs after a crash, a failover or a restore.
-- A server that has none has its run id, with an 'r' behind it: it may be that of an earlier history.
local function current_replication_id()
  local id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  if id then
    return id
  end
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  return run_id and run_id .. 'r' or 'unknown'
end

-- Quarantines this shard because it lacks an observed position. The mark is never removed: further
-- commits would only hide the loss. A Redis that lost nothing does not have the mark.
local function quarantine(meta, reason)
  -- Its first write cannot take memory, so that it works when the memory limit is reached.
  redis.call('HDEL', meta, 'none')
  redis.call('HSET', meta, 'quarantined', reason)
  return redis.error_reply('METADATALOST ' .. meta .. ' ' .. reason)
end
