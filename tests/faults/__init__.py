"""Faults on purpose: nodes and Redis killed, paused, cut off and failed over while all goes on (`make faults`)."""
