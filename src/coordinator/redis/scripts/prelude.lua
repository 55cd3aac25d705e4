-- Runs before every script but attach.lua and adopt.lua.
-- KEYS[1]: the meta key of a shard or of the registry. Every other key shares its hash tag, so
--          that it lies in the same slot, and is derived from it.
-- ARGV[1]: the generation that the caller serves.
-- ARGV[2]: the greatest sequence that the caller has seen here, in decimal.
-- Numbers are doubles: exact to 2^53, and printed by num() only, because tostring() rounds.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local LOG_ENTRIES = 16384

local function num(n)
  return string.format('%.0f', n)
end

local marker = redis.call('HMGET', meta, 'generation', 'sequence')
if marker[1] ~= ARGV[1] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' is of another generation, or of none')
end
local sequence = tonumber(marker[2] or '0')
if sequence < tonumber(ARGV[2]) then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' went back from ' .. ARGV[2] .. ' to ' .. num(sequence))
end

-- Raises the sequence by one and tells the followers. A stream id is the sequence itself, so
-- that a follower sees by the ids that it missed something.
local function announce(events)
  sequence = sequence + 1
  redis.call('HSET', meta, 'sequence', num(sequence))
  redis.call('XADD', prefix .. 'log', 'MAXLEN', '~', LOG_ENTRIES, num(sequence) .. '-0', 'e', events)
end

-- Whether timestamp a is later than b. Timestamps are 8 opaque bytes that sort as numbers do:
-- a client may choose ones beyond 2^53, and string comparison depends on the server's locale.
local function later(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

local RUN = '>i8i8c16i8i8c8'
