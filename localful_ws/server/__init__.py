"""Everything that waits, listens or tells the time: Trio around the protocol."""
