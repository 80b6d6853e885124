-- Gives back events that were accepted and that this server may lack, under the ids they had.
--
-- What came before one of them may be lacking too, and be with another node. So all that are lacking are put where
-- the others find them, under the epoch and the id before each, and whoever closes a gap appends all that follow it.
--
-- KEYS: the stream, the head, what is lacking.
-- ARGV: events and milliseconds of history, milliseconds a head and an id last, the command that publishes, the
--       channel, whether this is the last attempt, an epoch for a stream that is begun anew, the epoch that the
--       events are of; then for each event, in order: its id, the id before it, the key of its own id or nothing,
--       its JSON.
-- Returns 1 if nothing is lacking any more, 0 if something before one of them is, 2 if the stream was begun anew.
local stream, head, lacking = KEYS[1], KEYS[2], KEYS[3]
local history_events, history_ms, head_ms, id_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local publish, channel, is_last, fresh, epoch = ARGV[5], ARGV[6], ARGV[7] == '1', ARGV[8], ARGV[9]
local keeps = history_events > 0 and history_ms > 0
local LACKING_MS = 60000

local function tell(said_epoch, before, events)
  redis.call(publish, channel, '{"epoch":"' .. said_epoch .. '","prev":"' .. before .. '","events":['
    .. table.concat(events, ',') .. ']}')
end

local function begin_anew(last)
  redis.call('HSET', head, 'epoch', fresh, 'last', last)
  redis.call('PEXPIRE', head, head_ms)
  redis.call('DEL', stream, lacking)
  tell(fresh, last, {})
  return 2
end

-- Whether an id that is not after the stream's end is in it, or was and is not kept any more.
local function was_taken(id)
  if not keeps or call('XRANGE', stream, id, id)[1] then
    return true
  end
  local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return first and not is_before(first[2][2], id)
end

local function remember_id(key)
  if key ~= '' and id_ms > 0 then
    redis.call('SET', key, '', 'NX', 'PX', id_ms)
  end
end

local known, last = read_head(head)
if known and known ~= epoch then
  -- Begun anew since: whoever was there then has been told. Or before, and this server has not even that.
  local finish = ARGV[#ARGV - 3]
  return is_before(last, finish) and begin_anew(finish) or 1
end
if not known then
  last = '0-0'
end
for arg = 10, #ARGV, 4 do
  local id, before, key, event = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3]
  if is_before(last, id) then
    call('HSET', lacking, epoch .. ' ' .. before, cmsgpack.pack({id, key, event}))
  elseif was_taken(id) then
    remember_id(key)
  else
    return begin_anew(last)
  end
end
local before, told = last, {}
while true do
  local packed = call('HGET', lacking, epoch .. ' ' .. last)
  if not packed then
    break
  end
  redis.call('HDEL', lacking, epoch .. ' ' .. last)
  local id, key, event = unpack(cmsgpack.unpack(packed))
  if not known then
    redis.call('HSET', head, 'epoch', epoch, 'last', last)
    redis.call('DEL', stream)
    known = epoch
  end
  if keeps then
    call('XADD', stream, id, 'p', last, 'e', event)
  end
  remember_id(key)
  last = id
  told[#told + 1] = '["' .. id .. '",' .. event .. ']'
end
if #told > 0 then
  redis.call('HSET', head, 'epoch', epoch, 'last', last)
  redis.call('PEXPIRE', head, head_ms)
  if keeps then
    call('XTRIM', stream, 'MAXLEN', history_events)
    redis.call('PEXPIRE', stream, history_ms)
  end
  tell(epoch, before, told)
end
if not is_before(last, ARGV[#ARGV - 3]) then
  return 1
end
if is_last then
  return begin_anew(ARGV[#ARGV - 3])
end
redis.call('PEXPIRE', lacking, LACKING_MS)
return 0
