"""Tests of the daemon: the whole node without sockets on Trio's clock, and its parts one by one."""
