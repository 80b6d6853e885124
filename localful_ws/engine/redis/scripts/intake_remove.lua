-- Remove entries of the intake that are done with. KEYS: the stream. ARGV: group; their ids.

redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
