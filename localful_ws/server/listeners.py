"""Sockets to listen on, bound before anything else starts, so that a wrong address ends the start."""

import errno
import os
import socket
import ssl
from pathlib import Path

from localful_ws.settings import SettingsError


class ListenError(Exception):
    """An address can't be listened on; the message says which and what to do."""


def bind(host: str, port: int, *, setting: str, backlog: int) -> socket.socket:
    """Bind and listen; the socket is non-blocking.

    Args:
        host: An address or a name; its first address is taken.
        port: 0 for any free one.
        setting: What the port's setting is called, for the error message; the host's is called alike.
        backlog: How many connections may wait to be accepted.

    Raises:
        ListenError: If that isn't possible.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.create_server(address[:2], family=family, backlog=backlog)
    except OSError as error:
        raise ListenError(f"Can't listen on {host}:{port} ({_why(error)}). {_cure(error, setting)}") from None
    # Inherited by every connection: a small frame must not wait for the answer to the one before it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setblocking(False)
    return listening


def address(listener: socket.socket) -> tuple[str, int]:
    """The host and port a socket is bound to."""
    host, port = listener.getsockname()[:2]
    return str(host), int(port)


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Load the certificate chain and key for the WebSocket listener; None without one.

    Raises:
        SettingsError: If they can't be used.
    """
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls-cert and tls-key can't be used: {error}.") from None
    return context


def _why(error: OSError) -> str:
    # create_server() writes the address into the error's text as well.
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _cure(error: OSError, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Set --{setting} to another one, or stop what listens there."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Set --{setting} to one from 1024 on, or let the daemon bind it (CAP_NET_BIND_SERVICE)."
    return f"Set --{setting.removesuffix('port')}host to an address of this machine."
