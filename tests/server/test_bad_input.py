"""Bad input on an open connection: that connection ends or is answered, and nothing else notices."""

import json

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from localful_ws.protocol import Rate
from tests.raw_device import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawDevice,
    close,
    frame,
    handshake,
    text,
)
from tests.redis_world import settle
from tests.world import TRANSPORTS, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)

SUBSCRIBE = b'{"vaults":["a"]}'

# What follows the handshake, and the close code that says what was wrong with it.
MALFORMED = {
    "unmasked": (frame(TEXT, SUBSCRIBE, mask=None), 1002),
    "unmasked ping": (frame(PING, b"x", mask=None), 1002),
    **{f"reserved bit {bit}": (frame(TEXT, SUBSCRIBE, reserved=bit), 1002) for bit in (1, 2, 4, 7)},
    **{f"opcode {opcode}": (frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "fragmented ping": (frame(PING, b"x", final=False), 1002),
    "fragmented close": (frame(CLOSE, b"\x03\xe8", final=False), 1002),
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "pong of 70,000 bytes": (frame(PONG, b"x" * 70_000), 1002),
    "close of 126 bytes": (close(1000, b"x" * 124), 1002),
    "continuation of nothing": (frame(CONTINUATION, SUBSCRIBE), 1002),
    "text within text": (frame(TEXT, b"a", final=False) + frame(TEXT, b"b"), 1002),
    "binary within text": (frame(TEXT, b"a", final=False) + frame(BINARY, b"b"), 1002),
    "length in too many bytes": (b"\x81\xfe\x00\x05" + b"\0" * 9, 1002),
    "length in far too many bytes": (b"\x81\xff" + (5).to_bytes(8) + b"\0" * 9, 1002),
    "length with the highest bit": (frame(TEXT, b"x", announced=1 << 63), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close {code}": (close(code), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "close reason": (close(1000, b"\xff\xfe"), 1007),
    "not UTF-8": (frame(TEXT, b'{"vaults":["\xff"]}'), 1007),
    "half a character": (frame(TEXT, b"\xe2\x82"), 1007),
    "overlong": (frame(TEXT, b"\xc0\xaf"), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\xbd"), 1007),
    "half a character, then another message": (
        frame(TEXT, b"\xe2", final=False) + frame(CONTINUATION, b"\x82") + text("{}"),
        1007,
    ),
}
REASONS = {1002: "protocol-error", 1007: "invalid-text"}

REFUSED = {
    "5,000 arrays": "[" * 5000 + "]" * 5000,
    "101 arrays in a key": '{"vaults":[],"x":' + "[" * 101 + "]" * 101 + "}",
    "5,000 objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "open arrays": "[" * 30_000,
    "half a surrogate pair": '{"vaults":["\\ud83d"]}',
    "half a surrogate pair the other way": '{"event":"authenticate","token":"\\udd11"}',
    "no number": '{"vaults":[],"x":Infinity}',
    "a byte order mark": '\ufeff{"vaults":[]}',
    "nothing": "",
    "a zero byte": "\0",
    "two objects": '{"vaults":[]}{"vaults":[]}',
}


async def authenticated(world: World, user: str = "ada") -> RawDevice:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token(user)}"))
    assert len(device.messages) == 1
    return device


async def check_nothing_else_noticed(world: World, bystander: RawDevice) -> None:
    before = len(bystander.messages)
    await world.publish({"event": "user-update", "user": "bob"})
    assert len(bystander.messages) == before + 1
    assert len(tuple(world.node.devices())) == 1
    assert world.failures() == []


@pytest.mark.parametrize("name", MALFORMED)
async def test_frames_that_cannot_be(world: World, autojump_clock: MockClock, name: str) -> None:
    sent, code = MALFORMED[name]
    bystander = await authenticated(world, "bob")
    device = await authenticated(world)
    await device.say(sent)
    assert device.closed == (code, REASONS[code])
    await device.stream.aclose()
    await settle()
    assert world.closes() == {REASONS[code]: 1}
    await check_nothing_else_noticed(world, bystander)


@pytest.mark.parametrize("authenticate", [True, False])
async def test_a_device_that_goes_on_after_such_a_frame(
    world: World, autojump_clock: MockClock, *, authenticate: bool
) -> None:
    bystander = await authenticated(world, "bob")
    device = await authenticated(world) if authenticate else await world.raw(handshake())
    await device.say(frame(TEXT, b"x", mask=None))
    for _ in range(80):
        await device.send(b"\x81" * 4096)
        await trio.sleep(0.1)
    assert device.ended_at is not None
    assert device.ended_at <= 5
    assert len(device.frames) <= 2
    await check_nothing_else_noticed(world, bystander)


@pytest.mark.parametrize("name", REFUSED)
async def test_text_that_says_nothing(world: World, autojump_clock: MockClock, name: str) -> None:
    bystander = await authenticated(world, "bob")
    device = await authenticated(world)
    await device.say(text(REFUSED[name]))
    error = device.messages[-1]
    assert (error["event"], error["code"]) == ("error", "bad-message")
    assert len(json.dumps(error)) < 400
    assert device.closed == (4400, "bad-message")
    await device.say(close(4400))
    assert world.closes() == {"bad-message": 1}
    await check_nothing_else_noticed(world, bystander)


async def test_a_message_in_pieces_with_control_frames_in_between(
    world: World, autojump_clock: MockClock
) -> None:
    device = await authenticated(world)
    message = '{"vaults":["\u20ac\U0001f511"]}'.encode()
    for index in range(len(message)):
        opcode = CONTINUATION if index else TEXT
        await device.send(frame(opcode, message[index : index + 1], final=False))
        await device.send(frame(PING, bytes([index])), frame(PONG), frame(CONTINUATION, final=False))
    await device.say(frame(CONTINUATION))
    assert device.pongs() == [bytes([index]) for index in range(len(message))]
    assert device.messages[-1] == {"event": "subscribed", "vaults": ["\u20ac\U0001f511"]}


async def test_an_empty_message_is_refused_as_text(world: World, autojump_clock: MockClock) -> None:
    device = await authenticated(world)
    await device.say(frame(TEXT, final=False), frame(CONTINUATION, final=False), frame(CONTINUATION))
    assert "not JSON" in device.messages[-1]["message"]
    device = await authenticated(world)
    await device.say(frame(BINARY, final=False), frame(CONTINUATION))
    assert "not binary" in device.messages[-1]["message"]
    device = await authenticated(world)
    await device.say(frame(BINARY))
    assert "not binary" in device.messages[-1]["message"]


async def test_a_device_that_resets_while_it_is_sent_to(world: World, autojump_clock: MockClock) -> None:
    bystander = await authenticated(world, "bob")
    near = world.plug_in(trio.testing.lockstep_stream_pair)
    device = RawDevice(near, world.now)
    await near.send_all(handshake(f"Authorization: Bearer {world.token()}"))
    while not device.messages:
        device.received += await near.receive_some(1000)
    await world.publish({"event": "user-update", "user": "ada", "data": "x" * 1000})
    await near.receive_some(100)
    await near.aclose()
    await settle()
    assert world.closes() == {"connection-lost": 1}
    await check_nothing_else_noticed(world, bystander)


async def test_a_device_that_breaks_off_in_its_message(world: World, autojump_clock: MockClock) -> None:
    bystander = await authenticated(world, "bob")
    for cut in (1, 4, 10):
        device = await authenticated(world)
        await device.say(text({"vaults": ["a"]})[:cut])
        await device.stream.aclose()
        await settle()
    assert world.closes() == {"connection-lost": 3}
    await check_nothing_else_noticed(world, bystander)


async def test_a_message_goes_on_after_any_number_of_empty_pieces(autojump_clock: MockClock) -> None:
    async with open_world("lean", frame_rate=Rate(20_000, 10)) as world:
        device = await authenticated(world)
        await device.say(frame(TEXT, b"{", final=False))
        for _ in range(20):
            await device.say(frame(CONTINUATION, final=False) * 500)
        await device.say(frame(CONTINUATION, b'"vaults":[]}'))
        assert device.messages[-1]["event"] == "subscribed"


async def test_empty_pieces_count_as_frames(autojump_clock: MockClock) -> None:
    async with open_world("lean") as world:
        device = await authenticated(world)
        await device.say(frame(TEXT, b"{", final=False), frame(CONTINUATION, final=False) * 299)
        assert device.closed is None
        await device.say(frame(CONTINUATION, final=False))
        assert device.closed == (4429, "too-many")


pieces = st.one_of(
    st.binary(max_size=40),
    st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=200),
        final=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
        mask=st.one_of(st.none(), st.binary(min_size=4, max_size=4)),
        announced=st.one_of(st.none(), st.none(), st.integers(0, 1 << 63)),
    ),
    st.builds(
        text, st.sampled_from([SUBSCRIBE.decode(), "{}", "[]", '{"event":"authenticate","token":"x"}'])
    ),
)


async def hear_any_bytes(kind: str, upgrade: bool, sent: list[bytes]) -> None:  # noqa: FBT001 - trio.run
    async with open_world(kind) as world:
        bystander = await authenticated(world, "bob")
        device = await authenticated(world) if upgrade else await world.raw()
        for piece in sent:
            await device.say(piece)
        assert len(device.received) < 10_000
        await device.stream.aclose()
        # A connection that was being closed may wait so long for its answer.
        await trio.sleep(world.settings.close_timeout)
        await settle()
        await check_nothing_else_noticed(world, bystander)


@pytest.mark.parametrize("transport", TRANSPORTS)
@given(upgrade=st.booleans(), sent=st.lists(pieces, max_size=6))
@example(upgrade=False, sent=[b"GET /v1/sync HTTP/1.1\r\nhost: \xff\r\n\r\n"])
@example(upgrade=True, sent=[frame(TEXT, b"{"), frame(PING)])
@settings(max_examples=60, deadline=None)
def test_any_bytes(transport: str, *, upgrade: bool, sent: list[bytes]) -> None:
    trio.run(hear_any_bytes, transport, upgrade, sent, clock=MockClock(autojump_threshold=0))
