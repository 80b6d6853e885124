"""WebSocket URLs."""

import ssl
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, Listener, SocketAttribute
from anyio.streams.tls import TLSListener

from localful_ws.client.endpoint import Endpoint, open_stream, parse_endpoint

Tls = ssl.SSLContext


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


async def echo(stream: ByteStream) -> None:
    async with stream:
        await stream.send(await stream.receive())


async def talk(tls: Tls | None, trusted: ssl.SSLContext | None = None) -> bytes:
    """Say hello to an echo on loopback, and give what comes back."""
    listener: Listener[Any] = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False)
    answer = b""
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        endpoint = Endpoint("127.0.0.1", port, "/", tls=tls is not None)
        async with await open_stream(endpoint, trusted) as stream:
            await stream.send(b"hello")
            answer = await stream.receive()
        tasks.cancel_scope.cancel()
    return answer


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> Tls:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def test_a_stream_leads_to_the_server(backend: str) -> None:
    assert anyio.run(talk, None, backend=backend) == b"hello"


def test_it_is_encrypted_for_those_one_trusts(backend: str, tls: Tls, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert anyio.run(talk, tls, context, backend=backend) == b"hello"


def test_others_are_not_talked_to(backend: str, tls: Tls) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        anyio.run(talk, tls, backend=backend)
    assert caught.group_contains(ssl.SSLCertVerificationError)
