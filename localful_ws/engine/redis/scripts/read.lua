-- What came after an id in a user's stream.
--
-- KEYS: the stream, the head.
-- ARGV: an epoch for a new head, milliseconds a head lasts, the id, the most events, the most bytes; of a node
--       that has taken in all up to that id the epoch, else nothing; the command that publishes, the channel;
--       the most bytes of one event.
-- Returns the epoch, the last id of the stream, whether there is more than was allowed, and of each event its
-- id, the id before it and its JSON.
local stream, head, since = KEYS[1], KEYS[2], ARGV[3]

local function begin_anew(last)
  redis.call('HSET', head, 'epoch', ARGV[1], 'last', last)
  redis.call('DEL', stream)
  return ARGV[1], last
end

local epoch, last = read_head(head)
if not epoch then
  epoch, last = begin_anew('0-0')
end
redis.call('PEXPIRE', head, ARGV[2])
local found, left, bytes = {}, tonumber(ARGV[4]), tonumber(ARGV[5])
local from, more, over = '(' .. since, 0, left == 0
while not over do
  local some = call('XRANGE', stream, from, '+', 'COUNT', 64)
  over = #some < 64
  for _, entry in ipairs(some) do
    -- What somebody else put there has not these; it can't be read.
    local before, event = entry[2][2], entry[2][4] or ''
    if #event > tonumber(ARGV[9]) then
      event = ''  -- none of ours; it would only burden the node, which can't read it either
    end
    left, bytes = left - 1, bytes - #event
    if left < 0 or (bytes < 0 and #found > 0) then
      more, over = 1, true
      break
    end
    found[#found + 1] = entry[1]
    found[#found + 1] = before
    found[#found + 1] = event
    from = '(' .. entry[1]
  end
end
if ARGV[6] == epoch and (is_before(last, since) or found[2] and is_before(found[2], since)) then
  -- Redis came back with an older state: this id was in the stream, and is not. Nobody can be told what else is
  -- gone, and so no cursor of before holds.
  epoch, last = begin_anew(last)
  more, found = 0, {}
  redis.call(ARGV[7], ARGV[8], '{"epoch":"' .. epoch .. '","prev":"' .. last .. '","events":[]}')
end
return {epoch, last, more, found}
