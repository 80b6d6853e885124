-- Appends events to the streams of their users, each id once, and tells the nodes that follow them.
--
-- KEYS: for each user: its stream, its head, then a key for each event that has an id.
-- ARGV: events and milliseconds of history, milliseconds a head and an id last, the command that publishes,
--       then for each user: an epoch for a new head, its channel, how many events, then for each event
--       whether it has an id, and its JSON.
-- Returns how many events are new, and for each user the epoch, the id before its first new event, and of each
-- event the id, which is empty if it is not new.
local history_events, history_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local head_ms, id_ms, publish = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key, arg, accepted, written = 1, 6, 0, {0}
local keeps = history_events > 0 and history_ms > 0
-- Nodes are told at once of so many bytes of events. The rest they read.
local left = 1024 * 1024
while arg <= #ARGV do
  local stream, head = KEYS[key], KEYS[key + 1]
  local epoch, channel, count = ARGV[arg], ARGV[arg + 1], tonumber(ARGV[arg + 2])
  key, arg = key + 2, arg + 3
  local known, last = read_head(head)
  if known then
    epoch = known
  else
    last = '0-0'
    -- First what Redis refuses without memory. What is left of a stream whose head is gone is not of this one.
    redis.call('HSET', head, 'epoch', epoch, 'last', last)
    redis.call('DEL', stream)
  end
  local before, told, size, ids = last, {}, 0, {epoch, last}
  local ms, seq = string.match(last, '^(%d+)-(%d+)$')
  ms, seq = tonumber(ms), tonumber(seq)
  for _ = 1, count do
    local new = true
    if ARGV[arg] == '1' then
      new = id_ms == 0 or redis.call('SET', KEYS[key], '', 'NX', 'PX', id_ms)
      key = key + 1
    end
    if new then
      if now > ms then ms, seq = now, 0 else seq = seq + 1 end
      local id = string.format('%.0f-%.0f', ms, seq)
      if keeps then
        call('XADD', stream, id, 'p', last, 'e', ARGV[arg + 1])
      end
      told[#told + 1] = '["' .. id .. '",' .. ARGV[arg + 1] .. ']'
      size = size + #told[#told]
      last, accepted = id, accepted + 1
      ids[#ids + 1] = id
    else
      ids[#ids + 1] = ''
    end
    arg = arg + 2
  end
  if #told > 0 then
    call('XTRIM', stream, 'MAXLEN', history_events)
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f', math.max(0, now - history_ms)))
    redis.call('PEXPIRE', stream, history_ms)
    redis.call('HSET', head, 'epoch', epoch, 'last', last)
    if size > left and keeps and #told <= history_events then
      -- Redis would cut off nodes that it has too much to send to. They read it at their own pace.
      before, told = last, {}
    else
      left = left - size
    end
    redis.call(publish, channel,
      '{"epoch":"' .. epoch .. '","prev":"' .. before .. '","events":[' .. table.concat(told, ',') .. ']}')
  end
  redis.call('PEXPIRE', head, head_ms)
  written[#written + 1] = ids
end
written[1] = accepted
return written
