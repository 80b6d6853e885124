"""The outbox and the TCP stream on a real kernel with small buffers."""

import socket
from contextlib import suppress

import pytest
import trio
from localful_ws.server.outbox import Outbox, OutboxFullError, OutboxPeaks, OutboxPolicy
from trio.testing import wait_all_tasks_blocked

from localful_ws.protocol import text_frame
from localful_ws.server.tcp import TcpStream

pytestmark = pytest.mark.sockets


def connected_pair() -> tuple[TcpStream, socket.socket]:
    """A stream with small buffers, and the other end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far.connect(listening.getsockname())
        near, _ = listening.accept()
    for end in (near, far):
        end.setblocking(False)
    return TcpStream(near), far


def write_times(outbox: Outbox, frame: bytes, times: int) -> None:
    for _ in range(times):
        outbox.write(frame)


async def test_frames_arrive_whole_and_in_order() -> None:
    near, far = connected_pair()
    frames = [text_frame(b"%d " % number + b"x" * (number * 37 % 3000)) for number in range(300)]
    received = bytearray()
    with far:
        async with trio.open_nursery() as nursery, near:
            peaks = OutboxPeaks()
            outbox = Outbox(near, OutboxPolicy(1000, 10_000_000, nursery.start_soon, peaks))
            for number, frame in enumerate(frames):
                if number % 10 == 9:
                    nursery.start_soon(outbox.send_all, frame)
                    await wait_all_tasks_blocked()
                else:
                    outbox.write(frame)
            assert outbox.waiting_bytes > 100_000
            assert peaks.events > 100
            with trio.fail_after(10):
                while len(received) < len(b"".join(frames)):
                    await trio.lowlevel.wait_readable(far)
                    received += far.recv(1000)
            await outbox.send_eof()
            await trio.lowlevel.wait_readable(far)
            assert far.recv(1) == b""
    assert received == b"".join(frames)


async def test_a_peer_that_does_not_read() -> None:
    near, far = connected_pair()
    frame = text_frame(b"x" * 1000)
    with far:
        async with trio.open_nursery() as nursery, near:
            outbox = Outbox(near, OutboxPolicy(50, 1_000_000, nursery.start_soon, OutboxPeaks()))
            while len(frame) * 49 > outbox.waiting_bytes:
                outbox.write(frame)
            with pytest.raises(OutboxFullError):
                write_times(outbox, frame, 3)
            assert outbox.waiting_bytes <= 50 * len(frame)
            outbox.discard_waiting()
            assert outbox.waiting_bytes < len(frame)
            await outbox.aclose()


async def test_a_peer_that_resets() -> None:
    near, far = connected_pair()
    async with trio.open_nursery() as nursery, near:
        outbox = Outbox(near, OutboxPolicy(50, 1_000_000, nursery.start_soon, OutboxPeaks()))
        told = trio.Event()

        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await outbox.send_all(b"x" * 100_000)

        async def receive() -> None:
            with suppress(trio.BrokenResourceError):  # or nothing, if the sender was told first
                assert await outbox.receive_some(10) == b""

        async def both() -> None:
            async with trio.open_nursery() as ends:
                ends.start_soon(send)
                ends.start_soon(receive)
            told.set()

        nursery.start_soon(both)
        await wait_all_tasks_blocked()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with trio.fail_after(10):
            await told.wait()
        outbox.write(b"lost")
        with pytest.raises(trio.BrokenResourceError):
            near.shut_down_sending()


async def test_the_stream_by_itself() -> None:
    near, far = connected_pair()
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, b"x" * 100_000)
            received = 0
            with trio.fail_after(10):
                while received < 100_000:
                    await trio.lowlevel.wait_readable(far)
                    received += len(far.recv(5000))
        await near.wait_send_all_might_not_block()
        far.send(b"hello")
        assert await near.receive_some(3) == b"hel"
        assert await near.receive_some() == b"lo"
        near.shut_down_sending()
        far.shutdown(socket.SHUT_WR)
        assert await near.receive_some() == b""
    await near.aclose()


async def test_a_closed_stream() -> None:
    near, far = connected_pair()
    with far:
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await near.receive_some()

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await near.aclose()
        near.close_now()
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await near.wait_writable()
        with pytest.raises(trio.ClosedResourceError):
            near.shut_down_sending()


async def test_a_stream_whose_peer_has_gone() -> None:
    near, far = connected_pair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    async with near:
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")


async def test_a_wakeup_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = connected_pair()
    wait_readable = trio.lowlevel.wait_readable
    wakeups = 0

    async def wake_up(fd: int) -> None:
        nonlocal wakeups
        wakeups += 1
        if wakeups < 3:
            await trio.lowlevel.checkpoint()
        else:
            far.send(b"at last")
            await wait_readable(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wake_up)
    with far:
        async with near:
            assert await near.receive_some() == b"at last"
    assert wakeups == 3
