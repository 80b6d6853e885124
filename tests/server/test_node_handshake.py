"""The opening handshake: refusals with their bodies, tokens that come with it, and how long it may take."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.protocol import BEARER_SUBPROTOCOL, SUBPROTOCOL
from tests.raw_device import RawDevice, close, handshake
from tests.redis_world import settle
from tests.server.kernels import Kernel, ScriptedStream
from tests.server.sockets import FakePoller, fake_pair
from tests.server.tls import server_side, tls_pair
from tests.server.verifiers import slow_verifier
from tests.world import STARTED, TRANSPORTS, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def offering(*subprotocols: str) -> str:
    return f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}"


def check_refusal(device: RawDevice, world: World, status: int, identifier: str) -> None:
    assert device.status == status
    body = device.body
    assert (body["statusCode"], body["identifier"], body["context"]) == (status, identifier, {})
    assert body["message"].endswith(".")
    assert set(body) == {"statusCode", "identifier", "message", "context"}
    assert device.headers["content-type"] == "application/json"
    assert device.headers["connection"].lower() == "close"
    assert dict(world.node.metrics.handshakes_refused) == {status: 1}


@pytest.mark.parametrize(
    ("request_bytes", "status", "identifier"),
    [
        (handshake(path="/"), 404, "not-found"),
        (handshake(path="/v1/syncs"), 404, "not-found"),
        (handshake(path="/v1/sync/?a"), 404, "not-found"),
        (handshake("Origin: https://evil.example"), 403, "origin-not-allowed"),
        (handshake("Origin: null"), 403, "origin-not-allowed"),
        (handshake(bearer("no.token.this")), 401, "unauthorized"),
        (handshake("Authorization: Basic YTpi"), 401, "unauthorized"),
        (handshake("Authorization: "), 401, "unauthorized"),
        (handshake(offering("localful.bearer.no.token.this", SUBPROTOCOL)), 401, "unauthorized"),
        (handshake(offering("localful.bearer.no.token.this")), 400, "subprotocol-missing"),
    ],
)
async def test_refusals(
    kind: str, autojump_clock: MockClock, request_bytes: bytes, status: int, identifier: str
) -> None:
    async with open_world(kind, allow_origin=("https://app.example",)) as world:
        device = await world.raw(request_bytes)
        check_refusal(device, world, status, identifier)
        assert (b"no.token.this" in device.received) is False
        assert ("www-authenticate" in device.headers) == (status == 401)
        await trio.sleep(60)
        assert device.ended_at is not None
        assert world.closes() == {}


async def test_too_many_connections(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, max_connections=2) as world:
        first = await world.device("ada")
        await world.device("bob")
        device = await world.raw(handshake())
        check_refusal(device, world, 503, "too-many-connections")
        assert int(device.headers["retry-after"]) > 0
        await first.socket.aclose()
        await settle()
        assert (await world.open()).closed is None


async def test_handshakes_that_wait_together_for_the_last_place(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1), max_connections=2) as world:
        token = world.token()
        devices = [await world.raw(handshake(bearer(token))) for _ in range(5)]
        await trio.sleep(1)
        await settle()
        assert sorted(device.status or 0 for device in devices) == [101, 101, 503, 503, 503]
        assert len(tuple(world.node.devices())) == 2


async def test_draining(world: World, autojump_clock: MockClock) -> None:
    await world.raw(handshake(bearer(world.token())))  # and does not answer the close
    world.nursery.start_soon(world.node.drain, 10)
    await settle()
    device = await world.raw(handshake())
    check_refusal(device, world, 503, "draining")
    assert "retry-after" in device.headers


async def test_revoked_session(world: World, autojump_clock: MockClock) -> None:
    token = world.token("ada", "laptop")
    await world.disconnect(user="ada", group="laptop")
    device = await world.raw(handshake(bearer(token)))
    check_refusal(device, world, 403, "forbidden")
    assert world.node.metrics.authentication_failures["forbidden"] == 1


async def test_too_many_connections_of_a_user(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, max_connections_per_user=1) as world:
        await world.device("ada")
        device = await world.raw(handshake(bearer(world.token("ada"))))
        check_refusal(device, world, 429, "too-many")
        assert (await world.raw(handshake(bearer(world.token("bob"))))).status == 101


@pytest.mark.parametrize(("seconds", "ready"), [(0, False), (1000, True)])
async def test_tokens_that_cannot_be_verified(
    kind: str, autojump_clock: MockClock, seconds: float, *, ready: bool
) -> None:
    async with open_world(kind, verifier=slow_verifier(seconds, ready=ready)) as world:
        device = await world.raw(handshake(bearer(world.token())))
        await trio.sleep(3)
        await settle()
        check_refusal(device, world, 503, "try-again-later")


@pytest.mark.parametrize("way", ["header", "subprotocol", "both"])
async def test_a_good_token_opens_authenticated(world: World, autojump_clock: MockClock, way: str) -> None:
    headers: list[tuple[bytes, bytes]] = []
    subprotocols: list[str] = []
    token = world.token("ada", "tablet", 600)
    if way != "subprotocol":
        headers = [(b"Authorization", f"bearer   {token}".encode())]
    if way != "header":
        other = token if way == "subprotocol" else world.token("bob")
        subprotocols = [BEARER_SUBPROTOCOL + other, SUBPROTOCOL]
    device = await world.open(headers=headers, subprotocols=subprotocols)
    assert device.socket.subprotocol == (None if way == "header" else SUBPROTOCOL)
    assert device.take() == [
        {"event": "authenticated", "user": "ada", "group": "tablet", "expiresAt": STARTED + 600, "vaults": []}
    ]
    await world.publish({"event": "user-update", "user": "ada"}, {"event": "user-update", "user": "bob"})
    assert device.events == ["user-update"]
    await trio.sleep(10)
    assert device.closed is None
    await device.say({"event": "subscribe", "vaults": ["v"]})
    assert device.events == ["user-update", "subscribed"]


@pytest.mark.parametrize(
    ("offered", "selected"),
    [((), None), ((SUBPROTOCOL,), SUBPROTOCOL), (("chat", SUBPROTOCOL), SUBPROTOCOL), (("chat",), None)],
)
async def test_the_subprotocol(
    world: World, autojump_clock: MockClock, offered: tuple[str, ...], selected: str | None
) -> None:
    device = await world.open(subprotocols=offered)
    assert device.socket.subprotocol == selected
    await device.say({"event": "authenticate", "token": world.token()})
    assert device.events == ["authenticated"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        handshake("Origin: https://app.example"),
        handshake(),
        handshake(path="/v1/sync?a=1&b"),
        handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        handshake("x-long: " + "x" * 8000),
        handshake().replace(b"Upgrade: websocket", b"upgrade: WebSocket"),
        handshake().replace(b"Connection: Upgrade", b"connection: keep-alive, upgrade"),
    ],
)
async def test_what_is_let_in(kind: str, autojump_clock: MockClock, request_bytes: bytes) -> None:
    async with open_world(kind, allow_origin=("https://app.example",)) as world:
        device = await world.raw(request_bytes)
        assert device.status == 101
        assert device.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert "sec-websocket-extensions" not in device.headers
        assert world.node.metrics.connections_opened == 1


@pytest.mark.parametrize("sent", [b"", b"G", handshake()[:-2], b"GET /v1/sync HTTP/1.1\r"])
async def test_half_a_handshake_is_bounded_in_time(kind: str, autojump_clock: MockClock, sent: bytes) -> None:
    async with open_world(kind, handshake_timeout=7) as world:
        device = await world.raw(*[sent] if sent else [])
        await device.ended.wait()
        assert device.ended_at == 7
        assert world.node.devices() == ()
        assert world.closes() == {}


async def test_the_time_for_the_handshake_includes_the_verdict(kind: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(2)
    async with open_world(kind, handshake_timeout=1, verifier=verifier) as world:
        device = await world.raw(handshake(bearer(world.token())))
        await device.ended.wait()
        assert (device.ended_at, bytes(device.received), verifier.asked) == (1, b"", 1)


async def test_a_peer_that_leaves_during_the_handshake(world: World, autojump_clock: MockClock) -> None:
    for sent in (b"", handshake()[:50]):
        device = await world.raw(*[sent] if sent else [])
        await device.stream.aclose()
        await settle()
    assert world.node.devices() == ()
    assert dict(world.node.metrics.handshakes_refused) == {}


NO_HANDSHAKE = {
    "bytes": (b"\x00\x01\x02\x03\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x00\xee\x01\x00\x00\xea\x03\x03\r\n\r\n", 400),
    "words": (b"hello\r\n\r\n", 400),
    "no headers": (b"GET /v1/sync HTTP/1.1\r\n\r\n", 426),
    "plain": (b"GET /v1/sync HTTP/1.1\r\nHost: a\r\n\r\n", 426),
    "post": (b"POST /v1/sync HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", 405),
    "version": (handshake().replace(b"Version: 13", b"Version: 8"), 426),
    "no key": (handshake().replace(b"Sec-WebSocket-Key", b"X"), 400),
    "no host": (handshake().replace(b"Host: localhost\r\n", b""), 400),
    "bad header": (handshake("bad header"), 400),
    "long header": (handshake("x: " + "x" * 70_000), 431),
    "empty lines": (b"\r\n" * 40_000, 400),
    "no line": (b"X" * 70_000, 431),
    "one byte": (b"\x16", 400),
    "two hosts": (handshake("Host: localhost"), 400),
    "two origins": (handshake("Origin: https://a.example", "Origin: https://a.example"), 400),
    "two tokens": (handshake("Authorization: Bearer a", "Authorization: Bearer a"), 400),
}
# wsproto lets these pass, and so trio-websocket does.
NO_HANDSHAKE_TO_LEAN = {
    "HTTP/1.0": (handshake().replace(b"HTTP/1.1", b"HTTP/1.0"), 405),
    "short key": (handshake().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
    "no base64": (handshake().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"?"), 400),
    "two keys": (handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    "two versions": (handshake("Sec-WebSocket-Version: 13"), 400),
}


@pytest.mark.parametrize("name", NO_HANDSHAKE)
async def test_what_is_no_handshake_is_answered_or_ended(
    world: World, autojump_clock: MockClock, name: str
) -> None:
    bystander = await world.device("bob")
    device = await world.raw(NO_HANDSHAKE[name][0])
    await trio.sleep(10.5)
    await settle()
    assert device.ended_at is not None
    assert device.ended_at <= 10
    assert device.status is None or 400 <= device.status < 500
    await world.publish({"event": "user-update", "user": "bob"})
    assert bystander.events == ["user-update"]
    assert len(tuple(world.node.devices())) == 1


@pytest.mark.parametrize("name", NO_HANDSHAKE | NO_HANDSHAKE_TO_LEAN)
async def test_lean_says_what_is_wrong_with_a_handshake(autojump_clock: MockClock, name: str) -> None:
    request_bytes, status = (NO_HANDSHAKE | NO_HANDSHAKE_TO_LEAN)[name]
    async with open_world("lean") as world:
        device = await world.raw(request_bytes)
        assert device.status == status
        assert device.body["statusCode"] == status
        assert device.body["message"].endswith(".")
        assert int(device.headers["content-length"]) == len(device.received.partition(b"\r\n\r\n")[2])
        assert device.ended_at is None  # what it still sends is read away for a while
        await device.ended.wait()
        assert device.ended_at == world.settings.close_timeout


@pytest.mark.parametrize("received", [b"", handshake()[:40], handshake()])
async def test_a_peer_that_resets(world: World, autojump_clock: MockClock, received: bytes) -> None:
    stream = ScriptedStream(Kernel(), *[received] if received else [])
    await world.node.serve_stream(stream)
    await settle()
    assert world.now() == 0
    assert stream.closed
    assert world.node.devices() == ()
    assert set(world.closes()) <= {"connection-lost"}


# --- TLS ---


async def test_tls(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(bearer(world.token("ada"))), make_pair=tls_pair)
    assert device.messages[0]["event"] == "authenticated"
    for size in (10, 60_000, 10):
        await world.publish({"event": "user-update", "user": "ada", "data": "x" * size})
    assert [len(message["data"]) for message in device.messages[1:]] == [10, 60_000, 10]
    assert await world.disconnect(user="ada") == 1
    assert device.closed == (4403, "forbidden")
    await device.say(close(4403))
    assert device.ended_at == 0
    assert (world.closes(), world.node.devices()) == ({"forbidden": 1}, ())


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x00", handshake()])
async def test_what_is_no_tls(world: World, autojump_clock: MockClock, sent: bytes) -> None:
    def half_tls() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = fake_pair(FakePoller())
        return near, server_side(far)

    device = await world.raw(*[sent] if sent else [], make_pair=half_tls)
    await device.ended.wait()
    assert device.ended_at == (0 if sent.startswith(b"GET") else world.settings.handshake_timeout)
    assert world.node.devices() == ()


async def test_a_tls_device_that_vanishes(world: World, autojump_clock: MockClock) -> None:
    for half in (b"GET", handshake()):
        device = await world.raw(half, make_pair=tls_pair)
        await device.stream.aclose()
        await settle()
    assert world.node.devices() == ()
