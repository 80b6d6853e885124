"""Connections that say nothing: ``python -m tests.interop.idle <address> <port> <number>``.

Opens so many from that address to the port of 127.0.0.1, says so in a line, and keeps them until its input
ends.
"""

import resource
import socket
import sys
from contextlib import suppress


def main() -> None:
    """Open them, and wait."""
    address, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    for _ in range(number):
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((address, 0))
        with suppress(BlockingIOError):
            sock.connect(("127.0.0.1", port))
        idle.append(sock)
    print(len(idle), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
