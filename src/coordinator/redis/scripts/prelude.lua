-- Runs, after replication_id.lua, before every script but attach.lua, mark_shard.lua and verify.lua.
-- KEYS[1]: the meta key of a shard or of the registry. Every other key has the same hash tag, and
--          so the same slot, and is derived from it.
-- ARGV[1]: the metadata id of the caller.
-- ARGV[2]: 'sequence replication_id wait_marker': the greatest sequence that the caller observed
--          here, in decimal; the replication id under which it knows the shard to be verified, or
--          nothing; and 1 if something must be written for a WAIT.
-- Numbers are doubles: exact to 2^53, and formatted by num() only, because tostring() rounds.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local EVENTS_MAX = 16384

local function num(n)
  return string.format('%.0f', n)
end

-- In a slot of a Redis Cluster that moves away, an access to a missing key fails, and it would fail
-- between the writes of a script: nothing runs until the slot has moved.
if type(redis.pcall('EXISTS', prefix .. 'moving')) == 'table' then
  return redis.error_reply('TRYAGAIN the slot of ' .. meta .. ' is moving')
end
local observed, verified_id, wait_marker = string.match(ARGV[2], '^(%d+) (%w*) ([01])$')
local stored = redis.call('HMGET', meta, 'metadata_id', 'sequence', 'replication_id', 'quarantined')
if stored[1] ~= ARGV[1] then
  return redis.error_reply('METADATALOST ' .. meta .. ' has another metadata id, or none')
end
if stored[4] then
  return redis.error_reply('METADATALOST ' .. meta .. ' ' .. stored[4])
end
-- A Redis with a new replication id may have lost data: nothing runs before the shard is verified,
-- and nothing for a caller that did not report its observed positions.
local replication_id = current_replication_id()
if stored[3] ~= replication_id or verified_id ~= replication_id then
  return {'unverified'}
end
local sequence = tonumber(stored[2] or '0')
if sequence < tonumber(observed) then
  return quarantine(meta, 'went back from sequence ' .. observed .. ' to ' .. num(sequence))
end
if wait_marker == '1' then
  redis.call('HSET', meta, 'wait_marker', '')
end

-- Increments the sequence and publishes events. The id of a stream entry is the sequence, so that a
-- subscriber detects missed entries; the replication id tells whether it may count the sequence.
local function publish(events)
  sequence = sequence + 1
  redis.call('HSET', meta, 'sequence', num(sequence))
  redis.call('XADD', prefix .. 'events', 'MAXLEN', '~', EVENTS_MAX, num(sequence) .. '-0', 'e', events, 'r', string.sub(replication_id, 1, 8))
end

-- Whether timestamp a is later than b. Timestamps are 8 opaque bytes that sort as numbers do:
-- clients may choose values beyond 2^53, and string comparison depends on the server's locale.
local function later(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

local RUN = '>i8i8c16i8i8c8'
