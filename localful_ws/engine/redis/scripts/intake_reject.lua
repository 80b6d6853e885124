-- Keep entries of the intake that could not be accepted. KEYS: the stream of those. ARGV: about how many to
-- keep; then for each entry how many texts it has, and the texts: field, value, field, value.

local index = 2
while index <= #ARGV do
  local count = tonumber(ARGV[index])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', unpack(ARGV, index + 1, index + count))
  index = index + 1 + count
end
