"""What a parent and a worker say to each other, over a real socketpair."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from localful_ws.metrics import Family
from localful_ws.server.survey.questions import (
    Answered,
    Ask,
    DevicesAnswer,
    DevicesQuestion,
    DeviceView,
    MetricsAnswer,
    MetricsQuestion,
    UserCount,
    UsersAnswer,
    UsersQuestion,
)
from localful_ws.server.workers.messages import (
    MOST_BYTES,
    BrokenChannelError,
    Channel,
    Drain,
    Failed,
    Ready,
    Start,
    ToParent,
    ToWorker,
    parent_end,
    worker_end,
)

PATIENCE = 5
METRICS = MetricsQuestion()
FAMILIES = [
    Family("opened", "A text \N{SNOWMAN}.", "counter", {("", ""): 3}),
    Family("seconds", "", "histogram", {("a", "0.5"): 1, ("a", "count"): 2, ("a", "sum"): 7.25}, "label"),
]
DEVICE = DeviceView("phone", "authenticated", 1.5, None, 2.0, 3, ["v1", "v2"], 4, 5)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair()
    yield pair
    for sock in pair:
        sock.close()


async def exchange(sender: Channel[Any], receiver: Channel[Any]) -> list[object]:
    """Send what is posted and close; returns what arrives."""
    arrived: list[object] = []
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                sender.finish()
                await sender.send_posted()
                sender.close()

            nursery.start_soon(send)
            while (message := await receiver.receive()) is not None:
                arrived.append(message)
    receiver.close()
    return arrived


async def test_messages_arrive_as_they_were_sent(sockets: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = parent_end(sockets[0]), worker_end(sockets[1])
    large = bytes(range(256)) * 8192
    questions = [Ask(1, METRICS), Ask(2, UsersQuestion("a", "b", 3)), Ask(3, DevicesQuestion("u", None))]
    sent: list[ToWorker] = [
        Start(large),
        Drain(),
        *questions,
        Answered(2**40, METRICS, MetricsAnswer(FAMILIES)),
    ]
    for message in sent:
        parent.post(message)
    assert await exchange(parent, worker) == sent


async def test_a_worker_speaks_as_well(sockets: tuple[socket.socket, socket.socket]) -> None:
    parent, worker = parent_end(sockets[0]), worker_end(sockets[1])
    sent: list[ToParent] = [
        Ready(),
        Failed("A sentence \N{SNOWMAN}.", listening=True),
        Ask(0, METRICS),
        Answered(3, METRICS, MetricsAnswer(FAMILIES)),
        Answered(4, UsersQuestion(), UsersAnswer([UserCount("\N{SNOWMAN}", 2)], more=True)),
        Answered(5, DevicesQuestion("u"), DevicesAnswer([DEVICE], 2)),
    ]
    for message in sent:
        worker.post(message)
    assert await exchange(worker, parent) == sent


def answered_with(families: object) -> bytes:
    answer = {"type": "metrics", "families": families}
    answered = {"type": "Answered", "number": 1, "question": {"type": "metrics"}, "answer": answer}
    return msgspec.msgpack.encode(answered)


def framed(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


async def test_the_end_may_come_at_any_byte() -> None:
    data = framed(msgspec.msgpack.encode(Ask(7, METRICS)))
    for length in range(len(data) + 1):
        ours, theirs = socket.socketpair()
        parent = parent_end(ours)
        with theirs:
            for byte in data[:length]:
                theirs.send(bytes([byte]))
        with trio.fail_after(PATIENCE):
            first = await parent.receive()
            assert first == (Ask(7, METRICS) if length == len(data) else None)
            assert await parent.receive() is None
        parent.close()


@pytest.mark.parametrize(
    "data",
    [
        b"gibberish",
        struct.pack("!I", MOST_BYTES + 1),
        framed(b""),
        framed(b"\xc1"),
        framed(msgspec.msgpack.encode({"type": "Nothing"})),
        framed(msgspec.msgpack.encode({"type": "Ask", "number": "1", "question": {"type": "metrics"}})),
        framed(answered_with(b"# TYPE x")),
        framed(answered_with([{"name": "a", "text": "", "kind": "gauge", "samples": {("", ""): "1"}}])),
        framed(msgspec.msgpack.encode(Start(b""))),
    ],
)
async def test_what_is_no_message(sockets: tuple[socket.socket, socket.socket], data: bytes) -> None:
    parent = parent_end(sockets[0])
    sockets[1].send(data)
    with trio.fail_after(PATIENCE), pytest.raises(BrokenChannelError):
        await parent.receive()
    parent.close()


async def test_to_whoever_is_gone_nothing_is_said(sockets: tuple[socket.socket, socket.socket]) -> None:
    parent = parent_end(sockets[0])
    sockets[1].close()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent.send_posted)
            for _ in range(3):
                parent.post(Drain())
                await wait_all_tasks_blocked()
            assert await parent.receive() is None
    parent.close()
    parent.post(Drain())


async def test_what_a_stuck_worker_is_told_does_not_pile_up(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    parent, worker = parent_end(sockets[0]), worker_end(sockets[1])
    for number in range(10_000):
        parent.post(Ask(number, METRICS))
    arrived = await exchange(parent, worker)
    assert arrived == [Ask(number, METRICS) for number in range(len(arrived))]
    assert 0 < len(arrived) < 1000
