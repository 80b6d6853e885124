"""Where a server is: a ``ws`` or ``wss`` URL taken apart, and the stream that leads there."""

import ssl
from urllib.parse import urlsplit

import trio
from attrs import frozen


@frozen
class Endpoint:
    """A WebSocket URL, taken apart.

    Attributes:
        host: Name or address.
        port: Port.
        target: Path and query.
        tls: Whether it is ``wss``.
    """

    host: str
    port: int
    target: str
    tls: bool

    @property
    def host_header(self) -> str:
        """What the ``Host`` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Take a WebSocket URL apart.

    Raises:
        ValueError: If it isn't one. The message is a sentence.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("The URL is malformed.") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("The URL must begin with ws:// or wss:// and name a host.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("The URL must be printable ASCII without spaces.")
    tls = parts.scheme == "wss"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.hostname, port or (443 if tls else 80), target, tls)


async def open_stream(endpoint: Endpoint, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """Connect to an endpoint's host, with TLS if it is ``wss``.

    Args:
        endpoint: Where to.
        ssl_context: Whom to trust; None trusts whom the system trusts.

    Raises:
        OSError: If there is no connection.
        trio.BrokenResourceError: If TLS fails; the cause says why.
    """
    if not endpoint.tls:
        return await trio.open_tcp_stream(endpoint.host, endpoint.port)
    stream = await trio.open_ssl_over_tcp_stream(
        endpoint.host,
        endpoint.port,
        https_compatible=True,
        ssl_context=ssl_context or ssl.create_default_context(),
    )
    try:
        # At once, so that a certificate that is not trusted is an error of its own.
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream
