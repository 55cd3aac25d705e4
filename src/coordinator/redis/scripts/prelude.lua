-- Runs, after life.lua, before every script but attach.lua, adopt.lua and settle.lua.
-- KEYS[1]: the meta key of a shard or of the registry. Every other key shares its hash tag, so
--          that it lies in the same slot, and is derived from it.
-- ARGV[1]: the generation that the caller serves.
-- ARGV[2]: 'sequence life proof': the greatest sequence that the caller has seen here, in decimal;
--          the life of this Redis in which it knows the shard to be settled, or nothing; and 1
--          when something must be written, for a WAIT to prove.
-- Numbers are doubles: exact to 2^53, and printed by num() only, because tostring() rounds.
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local LOG_ENTRIES = 16384

local function num(n)
  return string.format('%.0f', n)
end

local seen, known_life, proof = string.match(ARGV[2], '^(%d+) (%w*) ([01])$')
local marker = redis.call('HMGET', meta, 'generation', 'sequence', 'life', 'condemned')
if marker[1] ~= ARGV[1] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' is of another generation, or of none')
end
if marker[4] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' ' .. marker[4])
end
-- A Redis that began to live anew may have forgotten: nothing before it is settled that it has not,
-- and nothing for a caller that has not yet told what it has seen.
local life = current_life()
if marker[3] ~= life or known_life ~= life then
  return {'unsettled'}
end
local sequence = tonumber(marker[2] or '0')
if sequence < tonumber(seen) then
  return condemn(meta, 'went back from ' .. seen .. ' to ' .. num(sequence))
end
if proof == '1' then
  redis.call('HSET', meta, 'proof', '')
end

-- Raises the sequence by one and tells the followers. A stream id is the sequence itself, so
-- that a follower sees by the ids that it missed something; the life says whether it may count it.
local function announce(events)
  sequence = sequence + 1
  redis.call('HSET', meta, 'sequence', num(sequence))
  redis.call('XADD', prefix .. 'log', 'MAXLEN', '~', LOG_ENTRIES, num(sequence) .. '-0', 'e', events, 'l', string.sub(life, 1, 8))
end

-- Whether timestamp a is later than b. Timestamps are 8 opaque bytes that sort as numbers do:
-- a client may choose ones beyond 2^53, and string comparison depends on the server's locale.
local function later(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

local RUN = '>i8i8c16i8i8c8'
