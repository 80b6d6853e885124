-- Which of some keys are there.
--
-- KEYS: the keys, in a Cluster all of one slot.
-- Returns their names.
local known = {}
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    known[#known + 1] = key
  end
end
return known
