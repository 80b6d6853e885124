"""The lean transport by itself: the same bytes give the same result, however they arrive."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
import trio.testing
from attrs import Factory, define
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from localful_ws.protocol import CloseCode, text_frame
from localful_ws.server.boundary import Boundary
from localful_ws.server.outbox import OutboxPeaks, OutboxPolicy
from localful_ws.server.transport.base import (
    RequestHead,
    Transport,
    TransportClosedError,
    TransportHost,
    Upgrade,
)
from localful_ws.server.transport.lean import accept_lean
from tests.raw_device import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, handshake

LIMIT = 1024
CLOSE_TIMEOUT = 5.0


@define
class Heard:
    """All that came of what was sent."""

    messages: list[str | bytes] = Factory(list)
    reason: str = ""
    answered: bytes = b""


async def judge(head: RequestHead) -> Upgrade:
    return Upgrade(None)


def host(nursery: trio.Nursery) -> TransportHost:
    boundary = Boundary(nursery)
    return TransportHost(
        boundary, OutboxPolicy(100, 100_000, boundary.start_soon, OutboxPeaks()), LIMIT, CLOSE_TIMEOUT
    )


async def open_transport(nursery: trio.Nursery, sent: bytes = b"") -> tuple[trio.abc.Stream, Transport]:
    near, far = trio.testing.memory_stream_pair()
    await near.send_all(handshake() + sent)
    transport = await accept_lean(far, host(nursery), judge)
    assert transport is not None
    return near, transport


async def converse(chunks: Sequence[bytes]) -> Heard:
    """Send each chunk when the one before has been dealt with, then hang up."""
    heard = Heard()
    async with trio.open_nursery() as nursery:
        near, far = trio.testing.memory_stream_pair()

        async def serve() -> None:
            transport = await accept_lean(far, host(nursery), judge)
            assert transport is not None
            try:
                while True:
                    heard.messages.append(await transport.receive())
            except TransportClosedError as closed:
                heard.reason = closed.reason
            with pytest.raises(TransportClosedError):
                await transport.receive()
            await far.aclose()

        nursery.start_soon(serve)
        for chunk in chunks:
            try:
                await near.send_all(chunk)
            except trio.BrokenResourceError:
                break  # it has closed already
            await trio.testing.wait_all_tasks_blocked()
        await near.send_eof()
        received = bytearray()
        while data := await near.receive_some():
            received += data
        heard.answered = bytes(received)
    return heard


def pieces_of(message: bytes, opcode: int, cuts: list[int]) -> bytes:
    """A message in frames."""
    bounds = [0, *sorted(cut % (len(message) + 1) for cut in cuts), len(message)]
    frames = [
        frame(CONTINUATION if index else opcode, message[start:end], final=index == len(bounds) - 2)
        for index, (start, end) in enumerate(pairwise(bounds))
    ]
    return b"".join(frames)


texts = st.text(max_size=60).map(str.encode)
cuts = st.lists(st.integers(0, 1000), max_size=4)
masks = st.binary(min_size=4, max_size=4)
conversation = st.lists(
    st.one_of(
        st.builds(lambda payload, mask: frame(TEXT, payload, mask=mask), texts, masks),
        st.builds(pieces_of, texts, st.just(TEXT), cuts),
        st.builds(pieces_of, st.binary(max_size=150), st.just(BINARY), cuts),
        st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
        st.builds(pieces_of, st.integers(LIMIT - 2, LIMIT + 200).map(b"x".__mul__), st.just(TEXT), cuts),
        st.builds(frame, st.just(CLOSE), st.binary(max_size=20)),
        st.builds(close, st.sampled_from([1000, 1001, 4000]), texts),
        st.binary(min_size=1, max_size=100),
    ),
    max_size=5,
).map(b"".join)


@given(sent=conversation, where=st.lists(st.integers(0, 3000), max_size=8))
@settings(max_examples=150, deadline=None)
async def test_any_split_of_the_same_bytes_gives_the_same(sent: bytes, where: list[int]) -> None:
    whole = await converse([handshake(), sent])
    bounds = [0, *sorted(cut % (len(sent) + 1) for cut in where), len(sent)]
    chunks = [sent[start:end] for start, end in pairwise(bounds)]
    assert await converse([handshake(), *chunks]) == whole
    assert await converse([handshake() + sent]) == whole


@given(sent=st.lists(st.one_of(st.text(max_size=100), st.binary(max_size=100)), max_size=5), where=cuts)
@settings(max_examples=40, deadline=None)
async def test_what_is_sent_arrives(sent: list[str | bytes], where: list[int]) -> None:
    data = b"".join(
        pieces_of(message.encode(), TEXT, where)
        if isinstance(message, str)
        else pieces_of(message, BINARY, where)
        for message in sent
    )
    heard = await converse([handshake(), data, close(1000)])
    assert (heard.messages, heard.reason) == (sent, "device-closed")


async def test_byte_by_byte_from_the_first(autojump_clock: MockClock) -> None:
    sent = handshake() + frame(TEXT, b"one") + frame(PING, b"?") + frame(TEXT, b"two") + close(1000)
    heard = await converse([bytes([byte]) for byte in sent])
    assert heard == await converse([sent])
    assert (heard.messages, heard.reason) == (["one", "two"], "device-closed")
    assert heard.answered.endswith(b"\x8a\x01?\x88\x02\x03\xe8")


async def test_a_close_of_ours_is_answered(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, transport = await open_transport(nursery)
        transport.close(CloseCode.TOKEN_EXPIRED)
        transport.close(CloseCode.INTERNAL_ERROR)
        late = text_frame(b"too late")
        transport.sender()(late, (late,))
        await near.send_all(frame(TEXT, b"not looked at") + frame(PING) + close(4410) + frame(TEXT, b"x"))
        with pytest.raises(TransportClosedError) as closed:
            await transport.receive()
        assert closed.value.reason == "device-closed"
        received = await near.receive_some()
        assert received.partition(b"\r\n\r\n")[2] == b"\x88\x0f\x11\x3atoken-expired"


async def test_an_aborted_connection_is_over(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, transport = await open_transport(nursery)
        transport.abort()
        with pytest.raises(TransportClosedError):
            await transport.receive()
        await near.receive_some()
        assert await near.receive_some() == b""


async def test_a_pong_that_cannot_be_sent_ends_it(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, far = trio.testing.lockstep_stream_pair()
        nursery.start_soon(near.send_all, handshake())
        transports: list[Transport | None] = []

        async def accept() -> None:
            transports.append(await accept_lean(far, host(nursery), judge))

        nursery.start_soon(accept)
        await near.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        (transport,) = transports
        assert transport is not None
        nursery.start_soon(near.send_all, frame(PING, b"hello"))
        reasons: list[str] = []

        async def receive() -> None:
            with pytest.raises(TransportClosedError) as closed:
                await transport.receive()
            reasons.append(closed.value.reason)

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert reasons == []
        await near.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert reasons == ["connection-lost"]


async def test_it_knows_whether_anything_was_heard(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        near, transport = await open_transport(nursery)
        assert transport.take_heard()
        assert not transport.take_heard()
        await near.send_all(frame(TEXT, b"x"))
        await transport.receive()
        assert transport.take_heard()
        assert not transport.take_heard()
