-- Commits parts of one object to partitions of this shard: the rules of log/partition_log.rs and
-- log/producer_state.rs, in the same order.
-- ARGV[3]: object id as text; ARGV[4]: as 16 bytes; ARGV[5]: seal time in milliseconds.
-- ARGV[6..]: part index, topic id as text, partition's name, part (redis/codec.rs).
local object, sealed = ARGV[4], tonumber(ARGV[5])
local outcomes_key = prefix .. 'o:' .. ARGV[3]
local OUTCOMES_RETENTION_MS = 7200000
local EXPIRATION_MS, SWEEP_INTERVAL_MS, BATCHES_REMEMBERED = 86400000, 3600000, 5
local SEQUENCES = 2147483648
-- Even. Lua's stack has room for about 8,000 arguments.
local UNPACK_MAX = 1000
local COMMITTED, DUPLICATE, OUT_OF_ORDER, OLD_EPOCH, DELETED = 0, 1, 2, 3, 4

local partitions, changed, deleted = {}, {}, {}

local function is_deleted(topic)
  if deleted[topic] == nil then
    deleted[topic] = redis.call('SISMEMBER', prefix .. 'deleted_topics', topic) == 1
  end
  return deleted[topic]
end

-- A producer's batches stay packed, oldest first: a commit reads the last one and adds one.
local BATCH_BYTES = 24

local function read_producer(value)
  local epoch, last_append = struct.unpack('>I2i8', value)
  return {epoch = epoch, last_append = last_append, batches = string.sub(value, 12)}
end

local function write_producer(producer)
  local count = #producer.batches / BATCH_BYTES
  return struct.pack('>I2i8B', producer.epoch, producer.last_append, count) .. producer.batches
end

-- Deletes expired producers. This has no visible effect: they count as unknown already.
local function sweep(p)
  local all = redis.call('HGETALL', prefix .. 'd:' .. p.name)
  for i = 1, #all, 2 do
    local _, last_append = struct.unpack('>I2i8', all[i + 1])
    if p.clock - last_append >= EXPIRATION_MS then
      redis.call('HDEL', prefix .. 'd:' .. p.name, all[i])
    end
  end
  p.swept = p.clock
end

local function open_partition(topic, name)
  local p = partitions[name]
  if p then
    return p
  end
  p = read_partition(name) or {
    name = name, is_new = true, start = 0, hw = 0, bytes = 0, clock = sealed, swept = sealed,
    holder = 0, uncovered = 0,
  }
  p.topic, p.clock, p.producers, p.written = topic, math.max(p.clock, sealed), {}, {}
  if p.clock - p.swept >= SWEEP_INTERVAL_MS then
    sweep(p)
  end
  partitions[name] = p
  changed[#changed + 1] = p
  return p
end

local function producer_of(p, id)
  local producer = p.producers[id]
  if producer == nil then
    local value = redis.call('HGET', prefix .. 'd:' .. p.name, id)
    producer = value and read_producer(value) or false
    p.producers[id] = producer
  end
  if producer and p.clock - producer.last_append >= EXPIRATION_MS then
    return false
  end
  return producer
end

-- Returns nil if the batch may be appended, else its outcome.
local function check(producer, epoch, base, last)
  if not producer then
    return nil
  end
  local batches = producer.batches
  if epoch == producer.epoch then
    local sequences = struct.pack('>I4I4', base, last)
    for at = 1, #batches, BATCH_BYTES do
      if string.sub(batches, at, at + 7) == sequences then
        return struct.pack('>B', DUPLICATE) .. string.sub(batches, at + 8, at + BATCH_BYTES - 1)
      end
    end
  end
  if epoch < producer.epoch then
    return struct.pack('>Bi8c8', OLD_EPOCH, 0, NO_TIME)
  end
  local expected = 0
  if epoch == producer.epoch then
    local _, newest = struct.unpack('>I4I4', batches, #batches - BATCH_BYTES + 1)
    expected = (newest + 1) % SEQUENCES
  end
  if base ~= expected then
    return struct.pack('>Bi8c8', OUT_OF_ORDER, 0, NO_TIME)
  end
  return nil
end

local function remember(p, id, producer, epoch, batch)
  if not producer or producer.epoch ~= epoch then
    producer = {epoch = epoch, batches = ''}
  end
  producer.last_append = p.clock
  -- The last four batches and the new one.
  producer.batches = string.sub(producer.batches, -BATCH_BYTES * (BATCHES_REMEMBERED - 1)) .. batch
  p.producers[id], p.written[id] = producer, true
end

local function close_run(p, runs, run)
  if not run then
    return
  end
  local member = struct.pack(RUN, run.base, run.count, object, run.start, run.bytes, run.time)
  redis.call('ZADD', prefix .. 'i:' .. p.name, num(run.base), member)
  p.bytes = p.bytes + run.bytes
  note_time(p, run.base, run.count, run.time)
  runs[#runs + 1] = member
end

local function commit_part(p, part, events)
  local head, position, count, at = struct.unpack('>c20i8I4', part)
  local outcomes, runs, run = {}, {}, nil
  for i = 1, count do
    local bytes, offsets, time, idempotent
    bytes, offsets, time, idempotent, at = struct.unpack('>I4I4c8B', part, at)
    local outcome
    if idempotent == 1 then
      local id, epoch, base
      id, epoch, base, at = struct.unpack('>c8I2I4', part, at)
      local last = (base + offsets - 1) % SEQUENCES
      local producer = producer_of(p, id)
      outcome = check(producer, epoch, base, last)
      if not outcome then
        remember(p, id, producer, epoch, struct.pack('>I4I4i8c8', base, last, p.hw, time))
      end
    end
    if outcome then
      close_run(p, runs, run)
      run = nil
    else
      outcome = struct.pack('>Bi8c8', COMMITTED, p.hw, NO_TIME)
      if not run then
        run = {base = p.hw, count = 0, start = position, bytes = 0, time = time}
      end
      run.count, run.bytes = run.count + offsets, run.bytes + bytes
      if later(time, run.time) then
        run.time = time
      end
      p.hw = p.hw + offsets
    end
    position = position + bytes
    outcomes[i] = outcome
  end
  close_run(p, runs, run)
  if #runs > 0 then
    events[#events + 1] = struct.pack('>Bc20I4', 1, head, #runs) .. table.concat(runs)
  end
  return struct.pack('>i8I4', p.start, count) .. table.concat(outcomes)
end

local function refuse_part(part)
  local _, _, count = struct.unpack('>c20i8I4', part)
  return struct.pack('>i8I4', 0, count) .. string.rep(struct.pack('>Bi8c8', DELETED, 0, NO_TIME), count)
end

-- Most commits are the first of their object: one lookup instead of one for each part.
local is_repeat = redis.call('EXISTS', outcomes_key) == 1
local reply, events, fresh = {}, {}, {}
for i = 6, #ARGV, 4 do
  local index, topic, name, part = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local outcome = is_repeat and redis.call('HGET', outcomes_key, index)
  if not outcome then
    if is_deleted(topic) then
      outcome = refuse_part(part)
    else
      outcome = commit_part(open_partition(topic, name), part, events)
    end
    fresh[#fresh + 1], fresh[#fresh + 2] = index, outcome
  end
  reply[#reply + 1] = outcome
end
for _, p in ipairs(changed) do
  write_partition(p)
  for id in pairs(p.written) do
    redis.call('HSET', prefix .. 'd:' .. p.name, id, write_producer(p.producers[id]))
  end
  if p.is_new then
    redis.call('SADD', prefix .. 'k:' .. p.topic, p.name)
  end
end
if #fresh > 0 then
  for i = 1, #fresh, UNPACK_MAX do
    redis.call('HSET', outcomes_key, unpack(fresh, i, math.min(i + UNPACK_MAX - 1, #fresh)))
  end
  redis.call('PEXPIRE', outcomes_key, OUTCOMES_RETENTION_MS)
end
if #events > 0 then
  publish(table.concat(events))
end
return {num(sequence), reply}
