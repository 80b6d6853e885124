"""Sockets to listen on, bound before anything else starts, so that a wrong address ends the start."""

import errno
import os
import socket
import ssl
from pathlib import Path

import structlog
from attrs import frozen

from localful_ws.settings import SettingsError

_log = structlog.get_logger(__name__)


@frozen
class Addresses:
    """Where a daemon listens, as host and port."""

    websocket: tuple[str, int]
    internal: tuple[str, int]


class ListenError(Exception):
    """An address can't be listened on; the message says which and what to do."""


def bind(host: str, port: int, *, setting: str, backlog: int, shared: bool = False) -> socket.socket:
    """Bind and listen; the socket is non-blocking.

    Args:
        host: An address or a name; its first address is taken.
        port: 0 for any free one.
        setting: What the port's setting is called, for the error message; the host's is called alike.
        backlog: How many connections may wait to be accepted.
        shared: Whether other processes may listen there as well, if they say so too; the kernel then shares
            out the connections among them. Who may is settled by whoever called `reserve`.

    Raises:
        ListenError: If that isn't possible.
    """
    try:
        family, where = _resolve(host, port)
        listening = socket.create_server(where, family=family, backlog=backlog, reuse_port=shared)
    except OSError as error:
        raise _listen_error(host, port, setting, error) from None
    # Inherited by every connection: a small frame must not wait for the answer to the one before it.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setblocking(False)
    return listening


def reserve(host: str, port: int, *, setting: str) -> socket.socket:
    """Take a port for several processes, without listening: they `bind` it, shared.

    Somebody else who listens there is noticed, even one that shares the port. Not so a second daemon that is
    just starting: until its workers listen, nothing tells it from ours.

    Args:
        host: As for `bind`.
        port: As for `bind`; of a free one the number stays taken for as long as the socket is open.
        setting: As for `bind`.

    Raises:
        ListenError: If the port can't be had.
    """
    try:
        family, where = _resolve(host, port)
        if port:
            _bind_only(family, where, shared=False).close()
        return _bind_only(family, where, shared=True)
    except OSError as error:
        raise _listen_error(host, port, setting, error) from None


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
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"tls-cert and tls-key can't be used: {error}.") from None
    return context


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = found[0]
    return family, (str(where[0]), int(where[1]))


def _bind_only(family: socket.AddressFamily, where: tuple[str, int], *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As create_server() does.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_error(host: str, port: int, setting: str, error: OSError) -> ListenError:
    return ListenError(f"Can't listen on {host}:{port} ({_why(error)}). {_cure(error, setting)}")


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


def log_addresses(addresses: Addresses, path: str, *, tls: bool) -> None:
    """Say in the log where devices and publishers are listened for.

    Args:
        addresses: Where.
        path: The path of the WebSocket endpoint.
        tls: Whether its listener speaks TLS.
    """
    host, port = addresses.websocket
    _log.info("listening", listener="websocket", host=host, port=port, path=path, tls=tls)
    host, port = addresses.internal
    _log.info("listening", listener="internal", host=host, port=port)
