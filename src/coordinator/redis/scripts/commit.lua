-- Commits parts of one object to partitions of this shard: the rules of log/partition_log.rs and
-- log/producer_state.rs, in the same order.
-- ARGV[3]: process as text; ARGV[4]: object id as 16 bytes; ARGV[5]: seal time in milliseconds;
-- ARGV[6]: the lowest sequence of the process that may still be committed here.
-- ARGV[7..]: part index, topic id as text, partition's name, part (redis/codec.rs).
local object = ARGV[4]
local BATCHES_REMEMBERED = 5
local SEQUENCES = 2147483648
local COMMITTED, DUPLICATE, OUT_OF_ORDER, OLD_EPOCH, DELETED = 0, 1, 2, 3, 4

-- No replica's clock ends the idempotence of producers: neither one ahead, by the clock of the
-- partition, nor one behind, by the last append of a producer.
local now = now_ms()
local sealed = math.min(math.max(tonumber(ARGV[5]), now - CLOCK_TOLERANCE_MS), now + CLOCK_TOLERANCE_MS)

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

local function open_partition(topic, name)
  local p = partitions[name]
  if p then
    return p
  end
  p = read_partition(name) or {
    name = name, is_new = true, start = 0, hw = 0, bytes = 0, clock = sealed, swept = sealed,
    runs = 0, times = 0, producer_count = 0, block_runs = 0,
  }
  partitions[name] = p
  if not p.lost then
    p.clock, p.producers, p.written, p.added = math.max(p.clock, sealed), {}, {}, {}
    changed[#changed + 1] = p
  end
  return p
end

local function producer_of(p, id)
  local producer = p.producers[id]
  if producer == nil then
    local value = p.producer_count > 0 and redis.call('HGET', prefix .. 'd:' .. p.name, id)
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

-- Adds the open run of a partition to its index.
local function close_run(p)
  local run = p.run
  if not run then
    return
  end
  p.run = nil
  local member = struct.pack(RUN, run.base, run.count, object, run.start, run.bytes, run.time)
  redis.call('ZADD', prefix .. 'i:' .. p.name, num(run.base), member)
  p.bytes, p.runs = p.bytes + run.bytes, p.runs + 1
  note_time(p, run.base, run.count, run.time)
  p.added[#p.added + 1] = member
end

local function commit_part(p, part)
  local head, position, count, at = struct.unpack('>c20i8I4', part)
  p.head = head
  -- Adjacent parts are one run.
  if p.run and p.run.start + p.run.bytes ~= position then
    close_run(p)
  end
  local outcomes = {}
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
      close_run(p)
    else
      outcome = struct.pack('>Bi8c8', COMMITTED, p.hw, NO_TIME)
      local run = p.run
      if not run then
        run = {base = p.hw, count = 0, start = position, bytes = 0, time = time}
        p.run = run
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
  return struct.pack('>i8i8I4', p.start, sealed, count) .. table.concat(outcomes)
end

local function refuse_part(part)
  local _, _, count = struct.unpack('>c20i8I4', part)
  return struct.pack('>i8i8I4', 0, sealed, count) .. string.rep(struct.pack('>Bi8c8', DELETED, 0, NO_TIME), count)
end

-- Adds the stored outcomes of a group of parts, by part index: 'index, length, outcome' each.
local function read_outcomes(packed, outcomes)
  local at = 1
  while at <= #packed do
    local index, length
    index, length, at = struct.unpack('>I4I4', packed, at)
    outcomes[index] = string.sub(packed, at, at + length - 1)
    at = at + length
  end
end

local function write_partitions()
  local rows, new = {}, 0
  for _, p in ipairs(changed) do
    rows[#rows + 1], rows[#rows + 2] = p.name, pack_partition(p)
    new = new + (p.is_new and 1 or 0)
  end
  for i = 1, #rows, UNPACK_MAX do
    redis.call('HSET', prefix .. 'partitions', unpack(rows, i, math.min(i + UNPACK_MAX - 1, #rows)))
  end
  count_elements('partitions', new)
end

local fence = read_fence(string.sub(object, 1, 12), ARGV[3])
local field = string.sub(object, 13, 16)
local object_sequence = struct.unpack('>I4', field)
-- The groups of the parts of this call: their fields, and the outcomes that are added to each.
local groups, fields, known = {}, {}, {}
for i = 7, #ARGV, 4 do
  local number = math.floor(tonumber(ARGV[i]) / PARTS_PER_GROUP)
  if not groups[number] then
    groups[number] = {field = group_field(field, number), number = number, fresh = {}}
    fields[#fields + 1] = groups[number].field
  end
end
if fence.count > 0 and #fields > 0 then
  local stored = redis.call('HMGET', fence.key, unpack(fields))
  for i, name in ipairs(fields) do
    stored[name] = stored[i]
  end
  for _, group in pairs(groups) do
    group.packed = stored[group.field] or nil
    read_outcomes(group.packed or '', known)
  end
end
fence.lowest = math.max(fence.lowest, tonumber(ARGV[6]))
local is_fenced = object_sequence < fence.lowest or fence.lowest == FENCED_FOR_EVER
local fenced = FENCED .. 'object ' .. ARGV[3] .. ' ' .. num(object_sequence) .. ' is below the fence ' .. num(fence.lowest)
local lost = LOST .. fence.key .. ' lacks outcomes: object ' .. num(object_sequence) .. ' may have been committed, and cannot be again'

local function commit_unknown(topic, name, part)
  if is_fenced then
    return fenced
  end
  if object_sequence < fence.lost_below then
    return lost
  end
  if is_deleted(topic) then
    return nil, refuse_part(part)
  end
  local p = open_partition(topic, name)
  if p.lost then
    return p.lost
  end
  return nil, commit_part(p, part)
end

local reply = {}
for i = 7, #ARGV, 4 do
  local index, topic, name, part = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local failure, outcome = nil, known[index]
  if not outcome then
    failure, outcome = commit_unknown(topic, name, part)
    if outcome then
      local fresh = groups[math.floor(index / PARTS_PER_GROUP)].fresh
      fresh[#fresh + 1] = struct.pack('>I4I4', index, #outcome) .. outcome
    end
  end
  reply[#reply + 1] = failure or (OK .. outcome)
end

local events = {}
for _, p in ipairs(changed) do
  close_run(p)
  for id in pairs(p.written) do
    p.producer_count = p.producer_count
      + redis.call('HSET', prefix .. 'd:' .. p.name, id, write_producer(p.producers[id]))
  end
  if #p.added > 0 then
    events[#events + 1] = struct.pack('>Bc20I4', 1, p.head, #p.added) .. table.concat(p.added)
  end
end
write_partitions()
local rows, last = {}, 0
for _, group in pairs(groups) do
  if #group.fresh > 0 then
    rows[#rows + 1], rows[#rows + 2] = group.field, (group.packed or '') .. table.concat(group.fresh)
    last = math.max(last, group.number)
  end
end
if last > tonumber(fence.count > 0 and last > 0 and redis.call('HGET', fence.key, last_group_field(field)) or '0') then
  rows[#rows + 1], rows[#rows + 2] = last_group_field(field), num(last)
end
for i = 1, #rows, UNPACK_MAX do
  fence.count = fence.count + redis.call('HSET', fence.key, unpack(rows, i, math.min(i + UNPACK_MAX - 1, #rows)))
end
if #rows > 0 then
  fence.newest = math.max(fence.newest, object_sequence)
end
sweep_outcomes(fence)
write_fence(fence)
if #events > 0 then
  publish(table.concat(events))
end
return {num(sequence), reply}
