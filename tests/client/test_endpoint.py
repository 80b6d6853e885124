"""WebSocket URLs."""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trustme

from localful_ws.client.endpoint import Endpoint, open_stream, parse_endpoint


@pytest.mark.parametrize(
    ("url", "endpoint", "host_header"),
    [
        ("ws://a.example/v1/sync", Endpoint("a.example", 80, "/v1/sync", tls=False), "a.example"),
        ("wss://a.example", Endpoint("a.example", 443, "/", tls=True), "a.example"),
        ("ws://a.example:443/", Endpoint("a.example", 443, "/", tls=False), "a.example:443"),
        ("ws://127.0.0.1:42102/x?y=1", Endpoint("127.0.0.1", 42102, "/x?y=1", tls=False), "127.0.0.1:42102"),
        ("wss://[::1]:8443/x", Endpoint("::1", 8443, "/x", tls=True), "[::1]:8443"),
    ],
)
def test_a_url_is_taken_apart(url: str, endpoint: Endpoint, host_header: str) -> None:
    assert parse_endpoint(url) == endpoint
    assert endpoint.host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "http://a.example",
        "ws://",
        "ws:///x",
        "ws://a:port/",
        "ws://[::1/",
        "ws://a/ü",
        "ws://a/b c",
    ],
)
def test_what_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^The URL .*\.$"):
        parse_endpoint(url)


async def echo(stream: trio.abc.Stream) -> None:
    """Send back what comes; a client that breaks off does no harm."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(await stream.receive_some())


async def serve(nursery: trio.Nursery, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> int:
    """Serve on loopback, and return the port."""
    listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
    port: int = listeners[0].socket.getsockname()[1]
    return port


@pytest.fixture
async def port(nursery: trio.Nursery) -> int:
    return await serve(nursery, echo)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def tls_port(nursery: trio.Nursery, authority: trustme.CA) -> int:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    async def echo_encrypted(stream: trio.SocketStream) -> None:
        await echo(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    return await serve(nursery, echo_encrypted)


async def test_a_stream_leads_to_the_server(port: int) -> None:
    async with await open_stream(Endpoint("127.0.0.1", port, "/", tls=False)) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


async def test_it_is_encrypted_for_those_one_trusts(tls_port: int, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with await open_stream(Endpoint("127.0.0.1", tls_port, "/", tls=True), context) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


async def test_others_are_not_talked_to(tls_port: int) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await open_stream(Endpoint("127.0.0.1", tls_port, "/", tls=True))
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
