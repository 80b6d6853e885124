-- Goes before publish.lua, read.lua and restore.lua.

-- A command on one of a user's keys. What is of another type there is of no use, and neither is a stream that
-- is ahead of its head, or at the end of all ids: they make way.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.find(reply.err, '^WRONGTYPE') or string.find(reply.err, 'XADD is equal or smaller')
    or string.find(reply.err, 'exhausted the last possible ID') then
    redis.call('DEL', key)
  end
  return redis.call(command, key, ...)
end

-- The epoch and the last id of a stream; nothing if it has no head, or none that can be read.
local function read_head(head)
  local known = call('HMGET', head, 'epoch', 'last')
  local epoch, last = known[1] or '', known[2] or ''
  local ms, seq = string.match(last, '^(%d+)-(%d+)$')
  -- Lua has only numbers that are exact up to some 15 digits.
  if string.find(epoch, '^[a-z0-9]+$') and #epoch <= 32 and ms and #ms <= 15 and #seq <= 15 then
    return epoch, last
  end
end

-- Whether one id is before another one. What is no id is before all.
local function is_before(one, other)
  local ms, seq = string.match(one, '^(%d+)-(%d+)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return not ms or ms < other_ms or ms == other_ms and tonumber(seq) < tonumber(other_seq)
end

