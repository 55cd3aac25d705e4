-- Verifies this shard under the replication id of this Redis, once all expected replicas reported
-- their observed positions and the shard has all of them (ADR 14). Follows replication_id.lua.
-- KEYS[1]: the meta key.
-- ARGV[1]: the metadata id; ARGV[2]: the replication id under which the caller knows the shard to
-- be verified, or ''; ARGV[3]: the caller's name; ARGV[4]: '1' if the caller may verify, '0' if it
-- must wait for another replica; ARGV[5]: how long to wait for the other replicas, in milliseconds;
-- ARGV[6]: the number of observed positions, followed by each of them: a replication id, and the
-- greatest sequence observed under it; then the names of replicas that the caller expects.
-- Replies with 'verified' or 'waiting', the replication id, the sequence at which it began, the
-- current sequence, the expected replicas, those of them that did not report yet, and the newest
-- earlier replication id under which a change was made ('' if none is known) with its last sequence.
local HISTORY_MAX = 64
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local verifying_key, history_key = prefix .. 'verifying', prefix .. 'replication_history'

local function num(n)
  return string.format('%.0f', n)
end

local stored = redis.call('HMGET', meta, 'metadata_id', 'sequence', 'replication_id', 'quarantined')
if stored[1] ~= ARGV[1] then
  return redis.error_reply('METADATALOST ' .. meta .. ' has another metadata id, or none')
end
if stored[4] then
  return redis.error_reply('METADATALOST ' .. meta .. ' ' .. stored[4])
end
-- While its slot of a Redis Cluster moves here, the shard lacks keys that are not lost. A client, or
-- a proxy, that follows ASK gets here before they do.
local nodes = redis.pcall('CLUSTER', 'NODES')
if type(nodes) == 'string' then
  local slot = string.format('%d', redis.call('CLUSTER', 'KEYSLOT', meta))
  if string.find(nodes, '[' .. slot .. '-<-', 1, true) then
    return redis.error_reply('TRYAGAIN the slot of ' .. meta .. ' is moving here')
  end
end
local current_id, sequence, verified_id = current_replication_id(), tonumber(stored[2] or '0'), stored[3]

-- The replication ids under which this shard was verified, oldest first, each with the sequence at
-- which it began.
local history, index_of = {}, {}
for i, entry in ipairs(redis.call('LRANGE', history_key, 0, -1)) do
  local id, start = string.match(entry, '^(%w+) (%d+)$')
  history[i], index_of[id] = {id = id, start = tonumber(start)}, i
end

-- The sequence at which a replication id ended here: where the next one began, or the current one.
-- nil if this shard never had that replication id.
local function end_of(id)
  local index = index_of[id]
  if index then
    return history[index + 1] and history[index + 1].start or sequence
  end
  -- The history is full, so the id may have been dropped from it: the start of the oldest entry.
  return #history == HISTORY_MAX and history[1].start or nil
end

-- A process that starts takes this as its position until it observes a change.
local function earlier_than(id)
  for i = (index_of[id] or #history + 1) - 1, 1, -1 do
    if end_of(history[i].id) > history[i].start then
      return history[i].id, num(end_of(history[i].id))
    end
  end
  return '', '0'
end

local positions = tonumber(ARGV[6])
if verified_id ~= current_id or ARGV[2] ~= current_id then
  for i = 7, 6 + 2 * positions, 2 do
    local id, observed = ARGV[i], tonumber(ARGV[i + 1])
    local reached = end_of(id)
    if not reached or reached < observed then
      return quarantine(meta, 'lacks changes that ' .. ARGV[3] .. ' reports: sequence ' .. num(observed)
        .. ' was observed under replication id ' .. string.sub(id, 1, 8) .. ', and this Redis has '
        .. (reached and num(reached) or 'none') .. ' of it')
    end
  end
end

if verified_id ~= current_id and ARGV[4] ~= '1' then
  return {'waiting', current_id, num(sequence), num(sequence), {}, {'a replica with a writer'}}
end
-- Redis compares its memory with the limit at the first write, unless that command cannot take it.
redis.call('HDEL', meta, 'none')
local expected, missing = {}, {}
local function expect(name)
  expected[#expected + 1] = name
end
-- Only the registry has members. Rows with an expired lease count: a late replica observed
-- positions too.
for _, name in ipairs(redis.call('HKEYS', prefix .. 'members')) do
  expect(name)
end
if verified_id ~= current_id then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if redis.call('HGET', verifying_key, 'replication_id') ~= current_id then
    redis.call('DEL', verifying_key)
    redis.call('HSET', verifying_key, 'replication_id', current_id, 'since', num(now))
  end
  for _, name in ipairs(expected) do
    redis.call('HSETNX', verifying_key, 'replica:' .. name, '')
  end
  for i = 7 + 2 * positions, #ARGV do
    redis.call('HSETNX', verifying_key, 'replica:' .. ARGV[i], '')
  end
  redis.call('HSET', verifying_key, 'replica:' .. ARGV[3], 'reported')
  local rows = redis.call('HGETALL', verifying_key)
  expected = {}
  for i = 1, #rows, 2 do
    if string.sub(rows[i], 1, 8) == 'replica:' then
      local name = string.sub(rows[i], 9)
      expect(name)
      if rows[i + 1] ~= 'reported' then
        missing[#missing + 1] = name
      end
    end
  end
  local waited = now - tonumber(redis.call('HGET', verifying_key, 'since'))
  -- A clock that went back ends the wait too, because the elapsed time is unknown.
  if #missing > 0 and waited >= 0 and waited < tonumber(ARGV[5]) then
    return {'waiting', current_id, num(sequence), num(sequence), expected, missing}
  end
  local earlier_id, earlier_sequence = earlier_than(current_id)
  redis.call('HSET', meta, 'replication_id', current_id)
  redis.call('RPUSH', history_key, current_id .. ' ' .. num(sequence))
  redis.call('LTRIM', history_key, -HISTORY_MAX, -1)
  redis.call('DEL', verifying_key)
  return {'verified', current_id, num(sequence), num(sequence), expected, missing, earlier_id, earlier_sequence}
end
-- A write for WAIT, which waits for all earlier writes too.
redis.call('HSET', meta, 'wait_marker', '')
local index = index_of[current_id]
if not index then
  return redis.error_reply('METADATALOST ' .. history_key .. ' lacks the current replication id')
end
return {'verified', current_id, num(history[index].start), num(sequence), expected, missing, earlier_than(current_id)}
