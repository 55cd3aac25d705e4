-- Takes, renews or ends one replica's lease, in the server's time. Replies with the secret, with
-- every member that has a valid lease, with every zone, and with every process that runs.
-- ARGV[3]: the replica's name; ARGV[4]: the lease in milliseconds, '0' ends it;
-- ARGV[5]: the member, packed; in every version of it, the incarnation and the process id (12 bytes) follow the version (1 byte);
-- ARGV[6]: the secret of new metadata; ARGV[7]: the longest lease in milliseconds;
-- ARGV[8]: the number of nodes that the replica requests for its zone, '0' if it hosts none and
-- only reads; ARGV[9]: the index of its zone.
local members_key, processes_key = prefix .. 'members', prefix .. 'processes'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local secret = redis.call('HGET', meta, 'secret')
if not secret then
  secret = ARGV[6]
  redis.call('HSET', meta, 'secret', secret)
end

-- Whether the process of member a started after that of member b, or is the same.
local function not_before(a, b)
  local _, a1, a2, a3 = struct.unpack('>BI4I4I4', a)
  local _, b1, b2, b3 = struct.unpack('>BI4I4I4', b)
  if a1 ~= b1 then return a1 > b1 end
  if a2 ~= b2 then return a2 > b2 end
  return a3 >= b3
end

-- A lease that ends later than any can was granted by a clock that was ahead of this one.
local function is_valid(lease_end)
  return lease_end > now and lease_end <= now + tonumber(ARGV[7])
end

local members, held = {}, nil
local rows = redis.call('HGETALL', members_key)
for i = 1, #rows, 2 do
  local name, row = rows[i], rows[i + 1]
  local lease_end = struct.unpack('>i8', row)
  if not is_valid(lease_end) then
    redis.call('HDEL', members_key, name)
  elseif name == ARGV[3] then
    held = string.sub(row, 9)
  else
    members[#members + 1] = string.sub(row, 9)
  end
end
-- A replaced process neither takes the lease again nor ends its successor's.
if ARGV[8] ~= '0' and (not held or not_before(ARGV[5], held)) then
  if ARGV[4] == '0' then
    redis.call('HDEL', members_key, ARGV[3])
    held = nil
  else
    held = ARGV[5]
    redis.call('HSET', members_key, ARGV[3], struct.pack('>i8', now + tonumber(ARGV[4])) .. held)
    local added = redis.call('HSET', prefix .. 'last_members', ARGV[9], held)
    count_elements('last_members', added)
    local is_raised = tonumber(ARGV[8]) > tonumber(redis.call('HGET', prefix .. 'zone_nodes', ARGV[9]) or '0')
    if is_raised then
      count_elements('zone_nodes', redis.call('HSET', prefix .. 'zone_nodes', ARGV[9], ARGV[8]))
    end
    if is_raised or added > 0 then
      -- A change, so that a Redis that lost it is detected. The later members of a zone are not:
      -- the next renewal stores them again.
      publish('')
    end
  end
end
if held then
  members[#members + 1] = held
end
-- Every process that renews counts as running, also one without a lease of its own: one that drains,
-- or whose name another one has.
local me, until_ms, processes = string.sub(ARGV[5], 2, 13), 0, {}
local ends = redis.call('HGETALL', processes_key)
for i = 1, #ends, 2 do
  local process, lease_end = ends[i], struct.unpack('>i8', ends[i + 1])
  if not is_valid(lease_end) then
    redis.call('HDEL', processes_key, process)
  elseif process == me then
    until_ms = lease_end
  else
    processes[#processes + 1] = process
  end
end
if ARGV[4] ~= '0' then
  until_ms = math.max(until_ms, now + tonumber(ARGV[4]))
  redis.call('HSET', processes_key, me, struct.pack('>i8', until_ms))
elseif ARGV[8] == '0' then
  redis.call('HDEL', processes_key, me)
  until_ms = 0
end
if until_ms > 0 then
  processes[#processes + 1] = me
end
local zones = {}
for i, name in ipairs(redis.call('LRANGE', prefix .. 'zones', 0, -1)) do
  local index = num(i - 1)
  local nodes = redis.call('HGET', prefix .. 'zone_nodes', index) or '0'
  zones[i] = {name, nodes, redis.call('HGET', prefix .. 'last_members', index) or ''}
end
return {num(sequence), secret, members, zones, processes}
