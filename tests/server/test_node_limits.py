"""What a device may not have more of, and what it costs the others when it tries: nothing."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.protocol import Rate
from tests.raw_device import BINARY, CONTINUATION, PING, PONG, TEXT, RawDevice, close, frame, handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import LEAN, TRANSPORTS, World, make_settings, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)

UPDATE = {"event": "user-update", "user": "ada"}
MIB = 1 << 20
LONGEST = make_settings().max_message_bytes


async def stuck_device(world: World, user: str = "ada") -> tuple[trio.abc.Stream, RawDevice]:
    """A device that reads its `authenticated`, and nothing more until it is told to.

    On a lockstep stream nothing is sent that is not just being received.
    """
    near = world.plug_in(trio.testing.lockstep_stream_pair)
    device = RawDevice(near, world.now)
    await near.send_all(handshake(f"Authorization: Bearer {world.token(user)}"))
    while not device.messages:
        device.received += await near.receive_some(100)
    return near, device


# --- how many ---


async def test_connections_of_one_user(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, max_connections_per_user=2) as world:
        first = await world.device("ada", "g1")
        await world.device("ada", "g1")
        third = await world.open()
        await third.say({"event": "authenticate", "token": world.token("ada"), "id": "x"})
        assert [(message["code"], message["id"]) for message in third.messages] == [("too-many", "x")]
        assert third.closed == (4429, "too-many")
        await first.say({"event": "authenticate", "token": world.token("ada")})
        assert first.events == ["authenticated"]
        await world.device("bob")
        await first.socket.aclose()
        await settle()
        await world.device("ada")
        assert world.closes() == {"too-many": 1, "device-closed": 1}
        assert world.node.metrics.authentication_failures["too-many"] == 1


async def test_a_connection_beyond_the_limit_that_came_authenticated_at_the_same_moment(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_world(kind, max_connections_per_user=1) as world:
        devices = [RawDevice(world.plug_in(), world.now) for _ in range(2)]
        for device in devices:
            world.nursery.start_soon(device.read)
            await device.send(handshake(f"Authorization: Bearer {world.token('ada')}"))
        await settle()
        opened = [device for device in devices if device.status == 101 and device.closed is None]
        assert len(opened) == 1
        (other,) = [device for device in devices if device is not opened[0]]
        assert other.status == 429 or other.closed == (4429, "too-many")


@pytest.mark.parametrize("message", [{"vaults": []}, "rubbish"])
async def test_message_rate(world: World, autojump_clock: MockClock, message: object) -> None:
    device = await world.device("ada", "g", ttl=10_000)
    for _ in range(29):  # the thirtieth was authenticate
        await device.send({"vaults": ["a"]})
    await settle()
    assert device.events == ["subscribed"] * 29
    device.take()
    await device.say(message)
    (error,) = device.messages
    assert (error["event"], error["code"], "id" in error) == ("error", "too-many", False)
    assert (device.closed, world.closes()) == ((4429, "too-many"), {"too-many": 1})


async def test_the_message_rate_grows_back(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, message_rate=Rate(3, 6)) as world:
        device = await world.device()
        for pause in (0, 0, 2, 2, 6, 0, 0, 4, 0):
            await trio.sleep(pause)
            await device.say({"vaults": []})
        assert (device.events, device.closed) == (["subscribed"] * 9, None)
        await device.say({"vaults": []})
        assert device.closed == (4429, "too-many")


# --- how big ---

EMPTY = len('{"vaults":[""]}')


def padded(size: int, letter: str = "x") -> str:
    """A `subscribe` of so many bytes; the padding is in a key that is ignored."""
    head = '{"vaults":[],"x":"'
    return head + letter * ((size - len(head) - 2) // len(letter.encode())) + '"}'


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u20ac", "\U0001f511"])
async def test_the_longest_message_and_one_longer(kind: str, autojump_clock: MockClock, letter: str) -> None:
    size = 1024 * 6 + 20
    async with open_world(kind, max_message_bytes=size) as world:
        device = await world.device()
        longest = padded(size, letter)
        assert size - 4 < len(longest.encode()) <= size
        await device.say(longest)
        assert (device.events, device.closed) == (["subscribed"], None)
        raw = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        await raw.say(text(longest + " " * (size - len(longest.encode()))))
        assert raw.messages[-1]["event"] == "subscribed"
        await raw.say(text(longest + " " * (size - len(longest.encode()) + 1)))
        assert raw.closed is not None
        assert raw.closed[0] == 1009
        await raw.say(close(1009))
        await raw.ended.wait()
        assert raw.ended_at is not None
        assert raw.ended_at <= 5
        assert world.closes() == {"message-too-big": 1}


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("letter", [b"x", "\u00e9".encode()])
async def test_a_message_too_big_in_pieces(
    world: World, autojump_clock: MockClock, opcode: int, letter: bytes
) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    piece = letter * (1000 // len(letter))
    await device.send(frame(opcode, piece, final=False))
    for _ in range(200):
        await device.send(frame(CONTINUATION, piece, final=False))
    await device.say(frame(CONTINUATION, piece))
    assert device.closed is not None
    assert device.closed[0] == 1009
    await device.ended.wait()
    assert device.ended_at is not None
    assert device.ended_at <= 5
    assert world.closes() == {"message-too-big": 1}
    assert len(tuple(world.node.devices())) == 0


@pytest.mark.parametrize("letter", ["x", "\u00e9"])
async def test_a_message_too_big_and_no_answer_to_the_close(
    world: World, autojump_clock: MockClock, letter: str
) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(text(padded(LONGEST + 10, letter)))
    assert device.closed is not None
    assert device.closed[0] == 1009
    await device.ended.wait()
    await settle()
    assert device.ended_at == world.settings.close_timeout
    assert (world.closes(), world.node.devices()) == ({"message-too-big": 1}, ())


async def test_a_huge_message_is_refused_before_it_has_come(world: World, autojump_clock: MockClock) -> None:
    bystander = await world.device("bob")
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(frame(TEXT, b"x" * 100, announced=1 << 62))
    for _ in range(50):
        await device.say(b"y" * 4096)
    assert device.closed is not None
    assert device.closed[0] == 1009
    await device.ended.wait()
    await world.publish({"event": "user-update", "user": "bob"})
    assert bystander.events == ["user-update"]


@pytest.mark.kinds(LEAN)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("announced", [LONGEST + 1, 1 << 62])
async def test_a_message_announced_too_long_is_refused_by_its_head(
    world: World, autojump_clock: MockClock, opcode: int, announced: int
) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(frame(opcode, announced=announced))
    assert device.closed == (1009, "message-too-big")
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(frame(opcode, b"x" * (LONGEST - 536), final=False))
    await device.say(frame(CONTINUATION, announced=536))
    assert device.closed is None
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(frame(opcode, b"x" * (LONGEST - 536), final=False))
    await device.say(frame(CONTINUATION, announced=537))
    assert device.closed == (1009, "message-too-big")


async def test_a_big_first_message(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake())
    await device.say(text("x" * (LONGEST + 1)))
    assert device.closed is not None
    assert device.closed[0] == 1009
    await device.say(close(1009))
    await device.stream.aclose()
    await settle()
    assert (world.closes(), world.node.devices()) == ({"message-too-big": 1}, ())


async def test_a_message_too_big_while_a_token_is_verified(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": world.token()}), text("x" * (LONGEST + 1)))
        await trio.sleep(1)
        await device.ended.wait()
        assert device.closed is not None
        assert device.closed[0] == 1009
        await settle()
        assert (world.closes(), world.node.devices()) == ({"message-too-big": 1}, ())


# --- how slow ---


@pytest.mark.parametrize(
    ("changes", "data", "fits"),
    [
        ({"send_buffer_events": 5}, "x", 6),
        ({"send_buffer_bytes": 70_000}, "x" * 20_000, 5),
    ],
    ids=["events", "bytes"],
)
async def test_a_slow_consumer_is_closed(
    kind: str, autojump_clock: MockClock, changes: dict[str, Any], data: str, fits: int
) -> None:
    async with open_world(kind, **changes) as world:
        fast = await world.device("ada", "fast")
        near, slow = await stuck_device(world)
        # The first of them is on its way, the others wait.
        for number in range(fits):
            await world.publish(UPDATE | {"data": f"{number}{data}"})
            assert world.closes() == {}
        await world.publish(UPDATE | {"data": f"n{data}"})
        assert world.closes() == {"slow-consumer": 1}
        assert world.node.metrics.slow_consumers == 1
        await world.publish(UPDATE)
        assert len(fast.messages) == fits + 2
        assert fast.closed is None
        # It reads again after all: what it had begun to get is whole, and after it comes the close.
        while slow.closed is None:
            slow.received += await near.receive_some(1000)
        assert slow.closed == (4412, "slow-consumer")
        assert [message["data"] for message in slow.messages[1:]] in ([], [f"0{data}"])
        assert slow.leftover == b""
        # What was over the limit, by one publish, had been added before.
        gauges = world.node.metrics.gauges()
        assert gauges.send_buffer_peak_events == 5
        assert 0 < gauges.send_buffer_peak_bytes <= 70_000 + 20_200


async def test_a_device_that_never_reads_is_dropped(world: World, autojump_clock: MockClock) -> None:
    near, _ = await stuck_device(world)
    for _ in range(1100):
        await world.node.publish(world.decode_events([UPDATE]))
    await settle()
    assert world.closes() == {"slow-consumer": 1}
    await trio.sleep(world.settings.close_timeout + 0.1)
    await settle()
    assert world.node.devices() == ()
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"x")


async def test_a_device_that_never_reads_and_is_not_told_anything_is_dropped_for_its_silence(
    world: World, autojump_clock: MockClock
) -> None:
    await stuck_device(world)
    await trio.sleep(46)
    assert (world.closes(), world.node.devices()) == ({"ping-timeout": 1}, ())


def deaf_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Both ends of a connection to a device that can send at any speed, and reads nothing by itself."""
    to_device, from_server = trio.testing.lockstep_stream_one_way_pair()
    from_device, to_server = trio.testing.memory_stream_one_way_pair()
    return trio.StapledStream(from_device, from_server), trio.StapledStream(to_device, to_server)


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("authenticated", [True, False])
async def test_a_device_that_pings_without_end_is_closed_and_then_dropped(
    world: World, autojump_clock: MockClock, *, reads: bool, authenticated: bool
) -> None:
    """However fast: in no time at all, and so without a chance for any timer."""
    bystander = await world.device("bob")
    near = world.plug_in(deaf_pair)
    device = RawDevice(near, world.now)
    await near.send_all(handshake(f"Authorization: Bearer {world.token()}" if authenticated else "X: y"))
    while not (device.messages if authenticated else device.status):
        device.received += await near.receive_some(1000)
    await settle()
    if reads:
        world.nursery.start_soon(device.read)
    flood = frame(PING, b"x" * 125)
    sent = 0
    while sent < 10 * MIB:
        try:
            await near.send_all(flood)
        except trio.BrokenResourceError:
            break
        sent += len(flood)
    await settle()
    assert MIB < sent < 1.5 * MIB
    assert (world.now(), len(tuple(world.node.devices()))) == (0, 1)
    assert world.closes() == {"too-many": 1}
    assert world.node.metrics.gauges().send_buffer_peak_bytes < 301 * len(flood)
    if reads:
        assert device.pongs() == [b"x" * 125] * 300
        assert device.closed == (4429, "too-many")
    await world.publish({"event": "user-update", "user": "bob"})
    assert bystander.events == ["user-update"]


@pytest.mark.kinds(LEAN)
@pytest.mark.parametrize(
    ("beginning", "sent"),
    [
        (frame(PONG), frame(PONG)),
        (frame(TEXT, final=False), frame(CONTINUATION, final=False)),
        (frame(BINARY, final=False), frame(CONTINUATION, b"x", final=False)),
    ],
)
async def test_frames_of_any_kind_count(
    world: World, autojump_clock: MockClock, beginning: bytes, sent: bytes
) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await device.say(beginning + sent * 299)
    assert len(device.frames) == 1
    await device.say(sent)
    assert device.closed == (4429, "too-many")
    assert [message["code"] for message in device.messages[1:]] == ["too-many"]


async def test_the_frame_rate_grows_back(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, frame_rate=Rate(3, 6)) as world:
        device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        for pause in (0, 0, 0, 2, 2, 6, 0, 0, 4, 0):
            await trio.sleep(pause)
            await device.say(frame(PING))
        assert (len(device.pongs()), device.closed) == (10, None)
        await device.say(frame(PING))
        assert device.closed == (4429, "too-many")


@pytest.mark.parametrize("reads_at_once", [True, False])
async def test_a_legal_batch_closes_nobody_who_reads(
    world: World, autojump_clock: MockClock, *, reads_at_once: bool
) -> None:
    """A publish is within its own limits, and so is what waits of it, although it is more than may wait."""
    _, slow = await stuck_device(world)
    assert world.settings.max_batch * 10_000 > 2 * world.settings.send_buffer_bytes
    if reads_at_once:
        world.nursery.start_soon(slow.read)
    for first in (0, 1000):
        await world.publish(*(UPDATE | {"data": f"{first + number:010000}"} for number in range(1000)))
        assert world.closes() == {}
        if not reads_at_once and not first:
            world.nursery.start_soon(slow.read)
            await settle()
    assert [int(message["data"][-4:]) for message in slow.messages[1:]] == list(range(2000))
    assert world.node.budget.bytes == 0


async def test_what_waits_of_a_batch_counts_against_the_next_publish(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_world(kind, send_buffer_events=5) as world:
        await stuck_device(world)
        await world.publish(*[UPDATE | {"data": "x" * 2000}] * 100)
        assert world.closes() == {}
        await world.publish(UPDATE)
        assert world.closes() == {"slow-consumer": 1}


async def test_a_slow_device_loses_nothing_while_it_is_within_its_limits(
    world: World, autojump_clock: MockClock
) -> None:
    near, slow = await stuck_device(world)
    for number in range(500):
        await world.publish(UPDATE | {"data": number})
    while len(slow.messages) < 501:
        slow.received += await near.receive_some(777)
    assert [message["data"] for message in slow.messages[1:]] == list(range(500))
    assert world.closes() == {}


async def test_answers_pile_up_no_more_than_events(kind: str, autojump_clock: MockClock) -> None:
    """A device that asks and asks, and does not read the answers."""
    async with open_world(kind, send_buffer_events=5) as world:
        near, _ = await stuck_device(world)
        for _ in range(7):
            await near.send_all(text({"vaults": ["a"]}))
        await settle()
        assert world.closes() == {"slow-consumer": 1}
        await trio.sleep(5.1)
        await settle()
        assert world.node.devices() == ()
