-- Remembers revocations, unless there are too many, and tells all nodes.
--
-- KEYS: the revocations, their lapses.
-- ARGV: the present, the most there may be, the command that publishes, the channel; then for each revocation
--       its name, since when and until when, the message.
-- Returns how many nodes were told, or -1 if there are too many.
local revoked, lapses, FIRST, EACH = KEYS[1], KEYS[2], 5, 4
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local lapsed = redis.call('ZRANGE', lapses, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1000)
if #lapsed > 0 then
  redis.call('HDEL', revoked, unpack(lapsed))
  redis.call('ZREM', lapses, unpack(lapsed))
end
local known, new = {}, 0
for index = FIRST, #ARGV, EACH do
  local name = ARGV[index]
  if known[name] == nil then
    known[name] = redis.call('HGET', revoked, name)
    new = new + (known[name] and 0 or 1)
  end
end
if new > 0 and redis.call('ZCARD', lapses) + new > most then
  return -1
end
local told = 0
for index = FIRST, #ARGV, EACH do
  local name, at, till = ARGV[index], ARGV[index + 1], ARGV[index + 2]
  if known[name] then
    local known_at, known_till = string.match(known[name], '^(%S+) (%S+)$')
    if tonumber(known_at) > tonumber(at) then at = known_at end
    if tonumber(known_till) > tonumber(till) then till = known_till end
  end
  redis.call('HSET', revoked, name, at .. ' ' .. till)
  redis.call('ZADD', lapses, till, name)
  told = tell(ARGV[3], ARGV[4], ARGV[index + 3])
end
return told
