-- What came after an id in a user's stream.
--
-- KEYS: the stream, the head.
-- ARGV: an epoch for a new head, milliseconds a head lasts, the id, the most events, the most bytes.
-- Returns the epoch, the last id of the stream, whether there is more than was allowed, and of each event its
-- id, the id before it and its JSON.
local stream, head = KEYS[1], KEYS[2]
local known = redis.call('HMGET', head, 'epoch', 'last')
if not known[1] then
  known = {ARGV[1], '0-0'}
  redis.call('HSET', head, 'epoch', known[1], 'last', known[2])
end
redis.call('PEXPIRE', head, ARGV[2])
local found, left, bytes = {}, tonumber(ARGV[4]), tonumber(ARGV[5])
local from, more = '(' .. ARGV[3], 0
while more == 0 do
  local some = redis.call('XRANGE', stream, from, '+', 'COUNT', 64)
  for _, entry in ipairs(some) do
    local fields = entry[2]
    left, bytes = left - 1, bytes - #fields[4]
    if left < 0 or (bytes < 0 and #found > 0) then more = 1 break end
    found[#found + 1] = entry[1]
    found[#found + 1] = fields[2]
    found[#found + 1] = fields[4]
    from = '(' .. entry[1]
  end
  if #some < 64 then break end
end
return {known[1], known[2], more, found}
