"""Servers that keep the same contract with other means, to be measured beside the daemon."""
