"""Where a server is: a ``ws`` or ``wss`` URL taken apart, and the stream that leads there."""

import ssl
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream
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


async def open_stream(endpoint: Endpoint, ssl_context: ssl.SSLContext | None = None) -> ByteStream:
    """Connect to an endpoint's host, with TLS if it is ``wss``.

    Args:
        endpoint: Where to.
        ssl_context: Whom to trust; None trusts whom the system trusts.

    Raises:
        OSError: If there is no connection, or TLS fails.
        anyio.EndOfStream: If the server hangs up before TLS is there.
        anyio.BrokenResourceError: If the connection breaks before that.
    """
    if not endpoint.tls:
        return await anyio.connect_tcp(endpoint.host, endpoint.port)
    return await anyio.connect_tcp(
        endpoint.host,
        endpoint.port,
        ssl_context=ssl_context or ssl.create_default_context(),
        # As in HTTP, hanging up without a word of TLS is a way to end: a WebSocket has its own last words.
        tls_standard_compatible=False,
    )
