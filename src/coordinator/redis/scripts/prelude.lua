-- Runs, after replication_id.lua, before every script but attach.lua, mark_shard.lua and verify.lua.
-- KEYS[1]: the meta key of a shard or of the registry. Every other key has the same hash tag, and
--          so the same slot, and is derived from it.
-- ARGV[1]: the metadata id of the caller.
-- ARGV[2]: 'sequence replication_id wait_marker now version': the greatest sequence that the caller observed
--          here, in decimal; the replication id under which it knows the shard to be verified, or
--          nothing; 1 if something must be written for a WAIT; and the time in milliseconds in
--          place of the server's, but for leases, or nothing; the version of the keys that the caller
--          knows.
-- Numbers are doubles: exact to 2^53, and formatted by num() only, because tostring() rounds.
-- WRITES, declared before: 'grows' if the script must fail when the memory limit is reached, 'frees'
-- if it must work then, 'nothing' if it only reads.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
-- Half the bytes to which the stream is bounded, and what an entry takes besides its events.
local STREAM_HALF_BYTES, ENTRY_BYTES = 4194304, 64
-- The keys whose number of elements is stored in a field of meta of the same name.
local COUNTED = {'partitions', 'fence', 'deleted_topics', 'topics', 'zones', 'zone_nodes', 'last_members'}
local LENGTH = {'HLEN', 'HLEN', 'SCARD', 'HLEN', 'LLEN', 'HLEN', 'HLEN'}

local function num(n)
  return string.format('%.0f', n)
end

-- In a slot of a Redis Cluster that moves away, an access to a missing key fails, and it would fail
-- between the writes of a script: nothing runs until the slot has moved.
if type(redis.pcall('EXISTS', prefix .. 'moving')) == 'table' then
  return redis.error_reply('TRYAGAIN the slot of ' .. meta .. ' is moving')
end
local observed, verified_id, wait_marker, injected_now, version = string.match(ARGV[2], '^(%d+) (%w*) ([01]) (%d*) (%d+)$')
local stored = redis.call('HMGET', meta, 'metadata_id', 'sequence', 'replication_id', 'quarantined', 'stream_half', 'format', unpack(COUNTED))
if stored[1] ~= ARGV[1] then
  return redis.error_reply('METADATALOST ' .. meta .. ' has another metadata id, or none')
end
-- A process that runs on while the metadata is converted to another version changes nothing. A shard
-- that names no version has that of the registry, which the process knows.
if stored[6] and stored[6] ~= version then
  return redis.error_reply('UNSUPPORTEDFORMAT ' .. stored[6])
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
-- A missing key is never taken for an empty one. No mark is left: during the migration of a slot,
-- keys are missing until they arrive.
local counts = {}
for i, name in ipairs(COUNTED) do
  local count = tonumber(stored[6 + i] or '0')
  counts[name] = count
  if count > 0 then
    local found = redis.call(LENGTH[i], prefix .. name)
    if found ~= count then
      return redis.error_reply('METADATALOST ' .. prefix .. name .. ' has ' .. num(found) .. ' elements, expected ' .. num(count))
    end
  end
end
-- Redis compares its memory with the limit at the first write of a script, unless that command
-- cannot take memory.
if WRITES == 'frees' or (WRITES == 'nothing' and wait_marker == '1') then
  redis.call('HDEL', meta, 'none')
end
if wait_marker == '1' then
  redis.call('HSET', meta, 'wait_marker', '')
end

-- Adds to the number of elements that a key must have.
local function count_elements(name, difference)
  if difference ~= 0 then
    counts[name] = counts[name] + difference
    redis.call('HSET', meta, name, num(counts[name]))
  end
end

-- Returns the time by which producers expire, in milliseconds.
local function now_ms()
  if injected_now ~= '' then
    return tonumber(injected_now)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Increments the sequence and publishes events. The id of a stream entry is the sequence, so that a
-- subscriber detects missed entries; the replication id tells whether it may count the sequence.
-- stream_half has the first sequence of the newer half of the stream, and that half's bytes: when
-- it is full, the older half is removed. A field u marks a change that is_only_in_redis: no object
-- has it.
local function publish(events, is_only_in_redis)
  sequence = sequence + 1
  local first, bytes = string.match(stored[5] or '', '^(%d+) (%d+)$')
  first, bytes = first or num(sequence), tonumber(bytes or '0') + #events + ENTRY_BYTES
  local fields = {'e', events, 'r', string.sub(replication_id, 1, 8)}
  if is_only_in_redis then
    fields[5], fields[6] = 'u', ''
  end
  redis.call('XADD', prefix .. 'events', num(sequence) .. '-0', unpack(fields))
  if bytes > STREAM_HALF_BYTES then
    redis.call('XTRIM', prefix .. 'events', 'MINID', first .. '-0')
    first, bytes = num(sequence + 1), 0
  end
  stored[5] = first .. ' ' .. num(bytes)
  redis.call('HSET', meta, 'sequence', num(sequence), 'stream_half', stored[5])
end

-- Whether timestamp a is later than b. Timestamps are 8 opaque bytes that sort as numbers do:
-- clients may choose values beyond 2^53, and string comparison depends on the server's locale.
local function later(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

local RUN = '>i8i8c16i8i8c8'
