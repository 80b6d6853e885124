"""Faults on purpose: nodes and Redis killed, paused and cut off while all goes on (`make faults`)."""
