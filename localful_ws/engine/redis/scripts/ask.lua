-- Asks all nodes something.
--
-- KEYS: the channel.
-- ARGV: the command that publishes, the message.
-- Returns how many nodes were asked.
return tell(ARGV[1], KEYS[1], ARGV[2])
