"""Tells a service manager how far the daemon is: sd_notify(3), without a library.

systemd names a datagram socket in ``NOTIFY_SOCKET`` (``Type=notify``). Without one nothing happens.
"""

import os
import socket
from typing import Final

import structlog

_log = structlog.get_logger(__name__)
_VARIABLE: Final = "NOTIFY_SOCKET"


def notify_ready(status: str) -> None:
    """Say that the daemon listens.

    Args:
        status: A line for people, which ``systemctl status`` shows.
    """
    _notify("READY=1", f"STATUS={status}")


def notify_stopping(status: str) -> None:
    """Say that the daemon drains.

    Args:
        status: As for `notify_ready`.
    """
    _notify("STOPPING=1", f"STATUS={status}")


def _notify(*assignments: str) -> None:
    """Send these to the service manager, if there is one. It never waits, and never raises."""
    name = os.environ.get(_VARIABLE, "")
    # There are addresses of other kinds (vsock:…), for virtual machines.
    if not name.startswith(("/", "@")):
        return
    # An @ stands for the null byte with which an abstract name begins.
    address = f"\0{name[1:]}" if name.startswith("@") else name
    message = "\n".join(assignments).encode()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(message)
    except OSError as error:
        _log.warning("the service manager was not told", told=assignments[0], reason=error.strerror)
