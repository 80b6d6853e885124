"""The real daemon as a process of its own, real sockets, and clients that are not ours."""
