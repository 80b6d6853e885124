"""Faults on purpose: nodes and Redis killed, paused, cut off, failed over meanwhile (`make faults`)."""
