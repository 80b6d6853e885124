-- Take entries of the intake, for the node that has the lease. One at a time, so that no more leaves Redis than
-- was asked for, however large the entries are.
--
-- KEYS: the stream; the lease.
-- ARGV: holder; group; consumer; ">" for new entries, or the id from which on to take those that were taken and
-- not removed; most entries; most bytes, after which no further one is taken; most bytes of an entry, beyond
-- which the beginning of its first fields is all that is given out.
--
-- Returns false without the lease. Else: the entries, each with id, fields and their size in bytes; the id to
-- go on from, "0-0" if there is nothing more; and if nothing was new, the id after which to wait.

local stream, holder, group, consumer, from = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local max_entries, max_bytes, max_size = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local CUT, FIELDS = 1000, 20

if redis.call('GET', KEYS[2]) ~= holder then
  return false
end

local function next_entry()
  if from == '>' then
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
    return reply and reply[1][2][1] or nil
  end
  repeat
    local reply = redis.call('XAUTOCLAIM', stream, group, consumer, 0, from, 'COUNT', 1)
    from = reply[1]
    if reply[2][1] then
      return reply[2][1]
    end
  until from == '0-0'
  return nil
end

local taken, bytes = {}, 0
repeat
  local entry = next_entry()
  if not entry then
    break
  end
  local fields, size = entry[2], 0
  for _, text in ipairs(fields) do
    size = size + #text
  end
  if size > max_size then
    local beginning = {}
    for index = 1, math.min(#fields, 2 * FIELDS) do
      beginning[index] = string.sub(fields[index], 1, CUT)
    end
    fields = beginning
  end
  taken[#taken + 1] = {entry[1], fields, size}
  bytes = bytes + math.min(size, max_size)
until #taken >= max_entries or bytes >= max_bytes or from == '0-0'

local last = ''
if from == '>' and #taken == 0 then
  for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local named = {}
    for index = 1, #info, 2 do
      named[info[index]] = info[index + 1]
    end
    if named['name'] == group then
      last = named['last-delivered-id']
    end
  end
end
return {taken, from, last}
