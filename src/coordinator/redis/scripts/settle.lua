-- Settles this shard in the life of this Redis, once all replicas that were alive have told what
-- they have seen of it, and nothing of that is missing (ADR 0014). Follows life.lua.
-- KEYS[1]: the meta key.
-- ARGV[1]: the generation; ARGV[2]: the life in which the caller knows it to be settled, or '';
-- ARGV[3]: the caller's name; ARGV[4]: '1' if it may settle, '0' if others have to;
-- ARGV[5]: how long the others are waited for, in milliseconds; ARGV[6]: how many floors; then each: a life, and the greatest sequence seen in it;
-- then the names of replicas that the caller takes for alive.
-- Replies with 'settled' or 'waiting', the life, the sequence at which it began, the sequence
-- now, the names that are expected, and those of them that are still waited for.
local LIVES_MAX = 64
local meta = KEYS[1]
local prefix = string.sub(meta, 1, -5)
local settling, lives_key = prefix .. 'settling', prefix .. 'lives'

local function num(n)
  return string.format('%.0f', n)
end

local marker = redis.call('HMGET', meta, 'generation', 'sequence', 'life', 'condemned')
if marker[1] ~= ARGV[1] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' is of another generation, or of none')
end
if marker[4] then
  return redis.error_reply('ODRADEKLOST ' .. meta .. ' ' .. marker[4])
end
local life, sequence, settled = current_life(), tonumber(marker[2] or '0'), marker[3]

-- Each life of this shard, oldest first, with the sequence at which it began.
local lives, place = {}, {}
for i, entry in ipairs(redis.call('LRANGE', lives_key, 0, -1)) do
  local name, base = string.match(entry, '^(%w+) (%d+)$')
  lives[i], place[name] = {name = name, base = tonumber(base)}, i
end

-- Where a life ended here: where the next one began, or now. nil when it never was lived here.
local function end_of(name)
  local at = place[name]
  if at then
    return lives[at + 1] and lives[at + 1].base or sequence
  end
  -- Too long ago to be remembered: the oldest one that is.
  return #lives == LIVES_MAX and lives[1].base or nil
end

local floors = tonumber(ARGV[6])
if settled ~= life or ARGV[2] ~= life then
  for i = 7, 6 + 2 * floors, 2 do
    local name, seen = ARGV[i], tonumber(ARGV[i + 1])
    local reached = end_of(name)
    if not reached or reached < seen then
      return condemn(meta, 'lacks what ' .. ARGV[3] .. ' knows of: ' .. num(seen) .. ' changes up to life '
        .. string.sub(name, 1, 8) .. ', of which it has ' .. (reached and num(reached) or 'none'))
    end
  end
end

if settled ~= life and ARGV[4] ~= '1' then
  return {'waiting', life, num(sequence), num(sequence), {}, {'a replica with a writer'}}
end
local expected, missing = {}, {}
local function expect(name)
  expected[#expected + 1] = name
end
-- Only the registry has members, and in it every row counts: who is late has seen something too.
for _, name in ipairs(redis.call('HKEYS', prefix .. 'members')) do
  expect(name)
end
if settled ~= life then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if redis.call('HGET', settling, 'life') ~= life then
    redis.call('DEL', settling)
    redis.call('HSET', settling, 'life', life, 'since', num(now))
  end
  for _, name in ipairs(expected) do
    redis.call('HSETNX', settling, 'r:' .. name, '')
  end
  for i = 7 + 2 * floors, #ARGV do
    redis.call('HSETNX', settling, 'r:' .. ARGV[i], '')
  end
  redis.call('HSET', settling, 'r:' .. ARGV[3], 'told')
  local rows = redis.call('HGETALL', settling)
  expected = {}
  for i = 1, #rows, 2 do
    if string.sub(rows[i], 1, 2) == 'r:' then
      local name = string.sub(rows[i], 3)
      expect(name)
      if rows[i + 1] ~= 'told' then
        missing[#missing + 1] = name
      end
    end
  end
  local waited = now - tonumber(redis.call('HGET', settling, 'since'))
  -- A clock that went back ends the wait as well: it cannot be told how long it was.
  if #missing > 0 and waited >= 0 and waited < tonumber(ARGV[5]) then
    return {'waiting', life, num(sequence), num(sequence), expected, missing}
  end
  redis.call('HSET', meta, 'life', life)
  redis.call('RPUSH', lives_key, life .. ' ' .. num(sequence))
  redis.call('LTRIM', lives_key, -LIVES_MAX, -1)
  redis.call('DEL', settling)
  return {'settled', life, num(sequence), num(sequence), expected, missing}
end
-- Written for WAIT, which proves what was written before.
redis.call('HSET', meta, 'proof', '')
return {'settled', life, num(lives[place[life]].base), num(sequence), expected, missing}
