-- Remembers a revocation, unless there are too many, and tells all nodes.
--
-- KEYS: the revocations, their lapses.
-- ARGV: the name of the revocation, since when and until when, the present, the most there may be, the
--       command that publishes, the channel, the message.
-- Returns how many nodes were told, or -1 if there are too many.
local revoked, lapses = KEYS[1], KEYS[2]
local name, at, till, now, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lapsed = redis.call('ZRANGE', lapses, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)
if #lapsed > 0 then
  redis.call('HDEL', revoked, unpack(lapsed))
  redis.call('ZREM', lapses, unpack(lapsed))
end
local known = redis.call('HGET', revoked, name)
if known then
  local known_at, known_till = string.match(known, '^(%S+) (%S+)$')
  if tonumber(known_at) > tonumber(at) then at = known_at end
  if tonumber(known_till) > tonumber(till) then till = known_till end
elseif redis.call('ZCARD', lapses) >= most then
  return -1
end
redis.call('HSET', revoked, name, at .. ' ' .. till)
redis.call('ZADD', lapses, till, name)
return redis.call(ARGV[6], ARGV[7], ARGV[8])
