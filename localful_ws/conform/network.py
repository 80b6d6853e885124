"""A server somewhere on a network, as scenes reach it."""

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httptools
import httpx
import trio
from attrs import Factory, define, field, frozen

from localful_ws.checks.probe import open_stream
from localful_ws.client.endpoint import Endpoint, parse_endpoint
from localful_ws.conform.device import parse_body
from localful_ws.conform.matching import Answer
from localful_ws.conform.terms import Issuer

# So much fits into the receive buffer of a device that will stop reading.
_SLOW_BUFFER: Final = 65536
_HTTP_SECONDS: Final = 10.0
_CONNECTIONS: Final = 64


@frozen
class Target:
    """A server, and what has to be known of it.

    Attributes:
        url: Where devices connect to.
        internal_url: Where publishers post to.
        publisher_key: The publisher key.
        issuer: Signs access tokens that it accepts.
        given: Its settings that are not the default ones, as a scene would write them.
    """

    url: str
    internal_url: str
    publisher_key: str = field(repr=False)
    issuer: Issuer
    given: Mapping[str, Any] = Factory(dict)


class UnreachableError(Exception):
    """There is no server; the message is a sentence."""


@define(eq=False)
class NetworkSite:
    """A `Target` as a `localful_ws.conform.live.Site`.

    Attributes:
        befalls: What can be made to happen to the server, and how.
    """

    endpoint: Endpoint
    internal: httpx.AsyncClient
    publisher_key: str
    befalls: Mapping[str, Callable[[], Awaitable[None]]] = Factory(dict)

    @property
    def host(self) -> str:
        """See `Site`."""
        return self.endpoint.host_header

    @property
    def path(self) -> str:
        """See `Site`."""
        return self.endpoint.target

    async def connect(self, *, slow: bool) -> trio.abc.Stream:
        """See `Site`."""
        return await (_open_slow_stream(self.endpoint) if slow else open_stream(self.endpoint))

    async def announce(self, request: httpx.Request, size: int) -> Answer:
        """See `Site`."""
        url = request.url
        open_tcp = trio.open_tcp_stream if url.scheme == "http" else trio.open_ssl_over_tcp_stream
        async with await open_tcp(url.host, url.port or (80 if url.scheme == "http" else 443)) as stream:
            return await announce_over(stream, request, size)

    async def settle(self) -> None:
        """See `Site`: over a network nobody can know."""

    async def happen(self, what: str) -> None:
        """See `Site`."""
        await self.befalls[what]()


@asynccontextmanager
async def open_site(target: Target) -> AsyncIterator[NetworkSite]:
    """Be ready to reach a server.

    Raises:
        ValueError: If one of its URLs is none. The message is a sentence.
    """
    endpoint = parse_endpoint(target.url)
    # Proxies are for the world outside; the key must not go to one.
    async with httpx.AsyncClient(
        base_url=target.internal_url,
        timeout=_HTTP_SECONDS,
        trust_env=False,
        limits=httpx.Limits(max_connections=_CONNECTIONS),
    ) as internal:
        yield NetworkSite(endpoint, internal, target.publisher_key)


async def check_reachable(site: NetworkSite) -> None:
    """See that both listeners are there.

    Raises:
        UnreachableError: If one is not.
    """
    where = f"{site.endpoint.host}:{site.endpoint.port}"
    try:
        with trio.fail_after(_HTTP_SECONDS):
            stream = await site.connect(slow=False)
        await trio.aclose_forcefully(stream)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise UnreachableError(f"There is no WebSocket server at {where}: {error}.") from None
    try:
        await site.internal.get("/healthz")
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"There is no internal port at {site.internal.base_url}: {reason}.") from None


async def _open_slow_stream(endpoint: Endpoint) -> trio.abc.Stream:
    stream = await _open_slow_tcp(endpoint)
    if not endpoint.tls:
        return stream
    context = ssl.create_default_context()
    return trio.SSLStream(stream, context, server_hostname=endpoint.host, https_compatible=True)


async def _open_slow_tcp(endpoint: Endpoint) -> trio.SocketStream:
    failure = OSError("There is no such host.")
    found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        sock = trio.socket.socket(family, kind, protocol)
        try:
            # It has to be set before the connection is there.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
            await sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return trio.SocketStream(sock)
    raise failure


class _AnswerReader:
    """Gathers an HTTP answer."""

    def __init__(self) -> None:
        self.body = b""
        self.headers: dict[str, str] = {}
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def announce_over(stream: trio.abc.Stream, request: httpx.Request, size: int) -> Answer:
    """Send a request over a connection to the internal port, with a body as long as it is or shorter.

    Args:
        stream: The connection.
        request: The request.
        size: How long the body is said to be.
    """
    request.headers["Content-Length"] = str(size)
    lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode() + request.content)
    return await _read_answer(stream)


async def _read_answer(stream: trio.abc.Stream) -> Answer:
    reader = _AnswerReader()
    parser = httptools.HttpResponseParser(reader)
    while not reader.complete:
        try:
            data = await stream.receive_some(4096)
            if not data:
                return Answer(0, "no answer")
            parser.feed_data(data)
        except (trio.BrokenResourceError, httptools.HttpParserError) as error:
            return Answer(0, f"no answer: {type(error).__name__}")
    return Answer(parser.get_status_code(), parse_body(reader.body), reader.headers)
