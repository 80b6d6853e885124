-- Get the lease of the intake, or keep it. KEYS: the lease. ARGV: holder; milliseconds, 0 to give it up.
-- Returns whether the holder has it.

local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[1] then
  return 0
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
