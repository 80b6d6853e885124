"""Faults of our own: they end one connection with 1011, are logged, and the node serves on."""

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from localful_ws.protocol import Action, Connection, ServerMessage, encode_server_message
from localful_ws.server import device as device_module
from localful_ws.server.outbox import Outbox
from tests.raw_device import handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import World, open_world

FAILED = ["a connection failed"]
UPDATE = {"event": "user-update", "user": "ada", "data": "for ada"}


async def check_others(world: World) -> None:
    """That the node goes on."""
    device = await world.device("zoe", "g", "v")
    await world.publish({"event": "item-create", "user": "zoe", "vault": "v"})
    assert device.events == ["item-create"]


async def test_a_handler_that_raises(transport: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(transport, verifier=verifier) as world:
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
    transport: str, autojump_clock: MockClock
) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(transport, verifier=verifier) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": "t"}))
        assert device.closed == (1011, "internal-error")
        await device.ended.wait()
        await settle()
        assert (device.ended_at, world.node.devices(), world.take_failures()) == (5, (), FAILED)


async def test_a_renewal_that_raises(transport: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier()
    async with open_world(transport, verifier=verifier) as world:
        device = await world.device()
        verifier.failure = RuntimeError("our own fault")
        await device.say({"event": "authenticate", "token": world.token()})
        assert (device.messages, device.closed) == ([], (1011, "internal-error"))
        assert world.take_failures() == FAILED
        await world.publish(UPDATE)
        assert device.messages == []


async def test_a_verdict_at_the_handshake_that_raises(transport: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(failure=RuntimeError("our own fault"))
    async with open_world(transport, verifier=verifier) as world:
        token = world.token()
        device = await world.raw(handshake(f"Authorization: Bearer {token}"))
        assert device.ended_at == 0
        assert token not in repr(world.failures())
        assert world.take_failures() == FAILED
        assert world.node.devices() == ()
        verifier.failure = None
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


async def test_a_delivery_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_frames = Outbox.write_frames
    written: set[Outbox] = set()

    def poisoned(self: Outbox, data: bytes, frames: Sequence[bytes]) -> None:
        if b"for ada" in data:
            written.add(self)
            if len(written) == 2:
                raise ZeroDivisionError
        write_frames(self, data, frames)

    monkeypatch.setattr(Outbox, "write_frames", poisoned)
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


async def test_a_transport_that_raises_and_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If not even the close can be waited for, the connection is dropped."""
    poisoned: Callable[..., object] = monkeypatch.setattr
    device = await world.raw(handshake())
    (victim,) = world.node.devices()
    transport_class = type(victim._transport)

    async def receive(self: object) -> str:
        raise ZeroDivisionError

    poisoned(transport_class, "receive", receive)
    await device.say(text({"event": "authenticate", "token": world.token()}))
    await settle()
    assert device.ended_at == 0
    assert len(world.take_failures()) == 2
    assert (world.closes(), world.node.devices()) == ({"internal-error": 1}, ())
    monkeypatch.undo()
    await check_others(world)


@pytest.mark.parametrize("way", ["disconnect", "user-delete", "expiry", "drain"])
async def test_a_close_that_raises(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Those who close a device close others as well, and do not end with it."""
    device = await world.raw(handshake())
    (victim,) = world.node.devices()
    await device.say(text({"event": "authenticate", "token": world.token("ada", ttl=20)}))
    transport_class = type(victim._transport)
    close: Callable[..., None] = transport_class.close

    def poisoned(self: object, *args: object, **options: object) -> None:
        if self is victim._transport:
            raise ZeroDivisionError
        close(self, *args, **options)

    monkeypatch.setattr(transport_class, "close", poisoned)
    other = await world.device("zoe", "g", "v")
    match way:
        case "disconnect":
            assert await world.disconnect(user="ada") == 1
        case "user-delete":
            await world.publish({"event": "user-delete", "user": "ada"})
        case "expiry":
            await trio.sleep(20)
        case "drain":
            await world.node.drain(10)
            assert other.closed == (1001, "server-shutdown")
    await device.ended.wait()
    await settle()
    assert world.take_failures() == FAILED
    if way != "drain":
        assert len(tuple(world.node.devices())) == 1
        await check_others(world)


async def test_the_end_of_the_node_ends_its_connections(transport: str, autojump_clock: MockClock) -> None:
    async with open_world(transport) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": world.token()}))
        world.connections.cancel_scope.cancel()
        await settle()
        assert device.ended_at == 0
        assert world.closes() == {"connection-lost": 1}


async def test_a_node_must_run_before_it_serves(transport: str, autojump_clock: MockClock) -> None:
    async with open_world(transport) as world:
        idle = type(world.node)(
            world.settings, world.node.clock, slow_verifier(), world.node._engine, world.node._accept
        )
        near, far = trio.testing.memory_stream_pair()
        await idle.serve_stream(far)
        assert await near.receive_some() == b""
        assert world.take_failures() == FAILED


async def test_when_the_node_is_not_ready(transport: str, autojump_clock: MockClock) -> None:
    verifier = slow_verifier(ready=False)
    async with open_world(transport, verifier=verifier) as world:
        assert "keys" in (world.node.unavailable() or "")
        verifier.ready = True
        assert world.node.unavailable() is None
        world.node.draining = True
        assert "shutting down" in (world.node.unavailable() or "")
