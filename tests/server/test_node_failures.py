"""Faults of our own: they end one connection with 1011, are logged, and the node serves on."""

from collections.abc import Sequence

import pytest
import trio
from attrs import frozen
from trio.testing import MockClock

from localful_ws.engine import EngineUnavailableError
from localful_ws.protocol import Action, Connection, ServerMessage, encode_server_message
from localful_ws.publishing import Disconnect
from localful_ws.server import device as device_module
from localful_ws.server.device import Device
from localful_ws.server.pump import StreamPump
from localful_ws.server.send_buffer import Piece
from localful_ws.server.trio_websocket_pump import TrioWebSocketPump
from localful_ws.server.websocket import Line
from tests.raw_device import handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import TRANSPORTS, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)

FAILED = ["a connection failed"]
UPDATE = {"event": "user-update", "user": "ada", "data": "for ada"}


async def check_others(world: World) -> None:
    """That the node goes on."""
    device = await world.device("zoe", "g", "v")
    await world.publish({"event": "item-create", "user": "zoe", "vault": "v"})
    assert device.events == ["item-create"]


async def test_a_handler_that_raises(kind: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(kind, verifier=verifier) as world:
        token = world.token()
        device = await world.open()
        await device.say({"event": "authenticate", "token": token})
        assert (device.messages, device.closed) == ([], (1011, "internal-error"))
        (failure,) = world.failures()
        assert isinstance(failure["exc_info"], RuntimeError | bool)
        assert token not in repr(failure)
        assert world.take_failures() == FAILED
        assert (world.closes(), world.node.devices()) == ({"internal-error": 1}, ())
        verifier.failure = None
        await check_others(world)


async def test_a_handler_that_raises_and_a_device_that_does_not_answer(
    kind: str, autojump_clock: MockClock
) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(kind, verifier=verifier) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": "t"}))
        assert device.closed == (1011, "internal-error")
        await device.ended.wait()
        await settle()
        assert (device.ended_at, world.node.devices(), world.take_failures()) == (5, (), FAILED)


async def test_a_renewal_that_raises(kind: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier()
    async with open_world(kind, verifier=verifier) as world:
        device = await world.device()
        verifier.failure = RuntimeError("our own fault")
        await device.say({"event": "authenticate", "token": world.token()})
        assert (device.messages, device.closed) == ([], (1011, "internal-error"))
        assert world.take_failures() == FAILED
        await world.publish(UPDATE)
        assert device.messages == []


async def test_a_verdict_at_the_handshake_that_raises(kind: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(kind, verifier=verifier) as world:
        token = world.token()
        device = await world.raw(handshake(f"Authorization: Bearer {token}"))
        assert device.ended_at == 0
        assert token not in repr(world.failures())
        assert world.take_failures() == FAILED
        assert world.node.devices() == ()
        verifier.failure = None
        await check_others(world)


@pytest.mark.parametrize("with_handshake", [True, False])
@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (EngineUnavailableError("It is away.", retry_after=1), 1013, "try-again-later"),
        (RuntimeError("our own fault"), 1011, "internal-error"),
    ],
)
async def test_a_stream_that_cannot_be_followed(
    world: World,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    code: int,
    reason: str,
    *,
    with_handshake: bool,
) -> None:
    async def join(*_: object) -> None:
        raise failure

    monkeypatch.setattr(world.node.engine, "join", join)
    device = await world.raw(
        handshake(f"Authorization: Bearer {world.token()}" if with_handshake else "X: y")
    )
    if not with_handshake:
        await device.say(text({"event": "authenticate", "token": world.token()}))
    assert device.closed == (code, reason)
    assert [message["code"] for message in device.messages] == (["try-again-later"] if code == 1013 else [])
    assert world.take_failures() == (FAILED if code == 1011 else [])
    monkeypatch.undo()
    await check_others(world)


async def test_an_answer_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(message: ServerMessage) -> str:
        if getattr(message, "id", None) == "poison":
            raise ZeroDivisionError
        return encode_server_message(message)

    monkeypatch.setattr(device_module, "encode_server_message", encode)
    device = await world.device("ada", "g1")
    other = await world.device("ada", "g2")
    await device.say({"vaults": ["a"], "id": "poison"})
    assert device.closed == (1011, "internal-error")
    assert world.take_failures() == FAILED
    await world.publish(UPDATE)
    assert (device.messages, other.events) == ([], ["user-update"])
    await check_others(world)


async def test_an_error_that_cannot_be_told(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close frame that was to follow it is not sent, but another is."""
    device = await world.device("ada", "g1")

    def encode(message: ServerMessage) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(device_module, "encode_server_message", encode)
    await device.say("rubbish")
    assert (device.messages, device.closed) == ([], (1011, "internal-error"))
    assert world.take_failures() == FAILED
    assert (world.closes(), world.node.devices()) == ({"internal-error": 1}, ())
    monkeypatch.undo()
    await check_others(world)


async def test_a_delivery_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_batch = Device.send_batch
    told: set[Device] = set()

    def poisoned(self: Device, pieces: Sequence[Piece]) -> None:
        if any(b"for ada" in piece.data for piece in pieces):
            told.add(self)
            if len(told) == 2:
                raise ZeroDivisionError
        send_batch(self, pieces)

    monkeypatch.setattr(Device, "send_batch", poisoned)
    devices = [await world.device("ada", f"g{number}") for number in range(3)]
    await world.publish(UPDATE)
    assert [device.closed for device in devices] == [None, (1011, "internal-error"), None]
    assert [device.events for device in devices] == [["user-update"], [], ["user-update"]]
    assert world.take_failures() == FAILED
    assert world.closes() == {"internal-error": 1}
    await check_others(world)


async def test_a_deadline_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_passed = Connection.time_passed

    def poisoned(self: Connection, now: float) -> tuple[Action, ...]:
        if self.session is not None and self.session.user == "ada":
            raise ZeroDivisionError
        return time_passed(self, now)

    monkeypatch.setattr(Connection, "time_passed", poisoned)
    device = await world.device("ada", "g", ttl=1000)
    other = await world.device("bob", "g", ttl=100)
    await trio.sleep(50)
    assert (device.closed, device.closed_at) == ((1011, "internal-error"), 25)
    assert world.take_failures() == FAILED
    await other.ended.wait()
    assert other.closed_at == 100
    await check_others(world)


@pytest.mark.parametrize("authenticated", [True, False])
async def test_a_pump_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, authenticated: bool
) -> None:
    """What can't be read from any more is told so, and has the time that a close has."""
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}" if authenticated else "X: y"))

    async def receive(self: object, device: Device) -> None:
        raise ZeroDivisionError

    for pump in (StreamPump, TrioWebSocketPump):
        monkeypatch.setattr(pump, "receive", receive)
    await device.say(
        text({"vaults": []} if authenticated else {"event": "authenticate", "token": world.token()})
    )
    assert (device.closed, device.ended_at) == ((1011, "internal-error"), None)
    await device.ended.wait()
    assert device.ended_at == world.settings.close_timeout
    assert world.take_failures() == FAILED
    assert (world.closes(), world.node.devices()) == ({"internal-error": 1}, ())
    monkeypatch.undo()
    await check_others(world)


@frozen
class PoisonedLine:
    """A line that takes everything but close frames."""

    line: Line

    def send(self, data: bytes | memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        if any(buffer[0] == 0x88 for buffer in buffers):
            raise ZeroDivisionError
        return self.line.sendmsg(buffers)


@pytest.mark.parametrize("way", ["disconnect", "user-delete", "expiry", "lose", "recall", "drain"])
async def test_a_close_that_raises(world: World, autojump_clock: MockClock, way: str) -> None:
    """Those who close a device close others as well, and do not end with it."""
    device = await world.raw(handshake())
    (victim,) = world.node.devices()
    await device.say(text({"event": "authenticate", "token": world.token("ada", ttl=20)}))
    victim.line = PoisonedLine(victim.line)
    other = await world.device("zoe", "g", "v")
    same_user = await world.device("ada", "g", "v", ttl=20)
    match way:
        case "disconnect":
            assert await world.disconnect(user="ada") == 2
            expected = 4403, "forbidden"
        case "user-delete":
            await world.publish({"event": "user-delete", "user": "ada"})
            expected = 4403, "forbidden"
        case "expiry":
            await trio.sleep(20)
            expected = 4410, "token-expired"
        case "lose":
            world.node.subscriber.lose("ada")
            expected = 4413, "missed-events"
        case "recall":
            now = world.node.clock.now()
            world.node.subscriber.recall([Disconnect(user="ada", at=now + 1, until=now + 100)])
            expected = 4403, "forbidden"
        case _:
            await world.node.drain(10)
            expected = 1001, "server-shutdown"
            assert other.closed == expected
    await device.ended.wait()
    await same_user.ended.wait()
    await settle()
    assert (device.closed, same_user.closed) == (None, expected)
    assert world.take_failures() == FAILED
    assert world.closes() == {expected[1]: 2 + (way == "drain")}
    if way != "drain":
        assert len(tuple(world.node.devices())) == 1
        await check_others(world)


async def test_the_end_of_the_node_ends_its_connections(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": world.token()}))
        world.connections.cancel_scope.cancel()
        await settle()
        assert device.ended_at == 0
        assert world.closes() == {"connection-lost": 1}


async def test_a_node_must_run_before_it_serves(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        node = world.node
        idle = type(node)(world.settings, node.clock, slow_verifier(), node.engine)
        with pytest.raises(RuntimeError, match=r"^Node\.run must be running"):
            idle.start_soon(trio.sleep, 0)
        await idle.drain(10)
        assert world.now() == 0


async def test_when_the_node_is_not_ready(kind: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(ready=False)
    async with open_world(kind, verifier=verifier) as world:
        assert "keys" in (world.node.unavailable() or "")
        verifier.ready = True
        assert world.node.unavailable() is None
        world.node.draining = True
        assert "shutting down" in (world.node.unavailable() or "")
