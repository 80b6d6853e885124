"""TLS with a certificate of its own: the daemon's at one end, Trio's at the other."""

import ssl
from functools import cache

import trio
import trustme

from localful_ws.server.tls import TlsStream
from localful_ws.tcp import TcpStream
from tests.server.sockets import FakePoller, fake_pair


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What the device and the server need."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return client, server


def device_side(stream: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
    """The device's end."""
    return trio.SSLStream(stream, contexts()[0], server_hostname="localhost", https_compatible=True)


def server_side(stream: TcpStream) -> TlsStream:
    """The server's end."""
    return TlsStream(stream, contexts()[1])


def tls_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Both ends, in memory."""
    near, far = fake_pair(FakePoller())
    return device_side(near), server_side(far)
