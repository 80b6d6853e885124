-- Goes before ask.lua and revoke.lua.

-- Publishes to all nodes, and says to how many. Whoever subscribes to a pattern is none, and PUBLISH counts them;
-- SPUBLISH, the one for a Cluster, does not.
local function tell(command, channel, message)
  local told = redis.call(command, channel, message)
  if command == 'PUBLISH' then
    told = redis.call('PUBSUB', 'NUMSUB', channel)[2]
  end
  return told
end

