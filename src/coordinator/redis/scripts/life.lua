-- The life of this Redis: its replication id. It is drawn anew at every start of a master and at
-- every promotion of a replica, so that after a crash, a failover or a restore it is another one.
local function current_life()
  local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  return life or string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or 'unknown'
end

-- Marks this shard as one that lost what somebody has seen. Nothing takes the mark away: more
-- commits would only hide the loss. The Redis that lost nothing does not have it.
local function condemn(meta, why)
  redis.call('HSET', meta, 'condemned', why)
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' ' .. why)
end
