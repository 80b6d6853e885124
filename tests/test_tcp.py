"""The TCP stream on a real kernel with small buffers."""

import socket
from contextlib import suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from localful_ws.tcp import close_socket, shut_down_sending
from tests.server.kernels import connected_pair

pytestmark = pytest.mark.sockets


async def test_both_directions() -> None:
    near, far = connected_pair()
    async with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, b"x" * 100_000)
            received = 0
            with trio.fail_after(10):
                while received < 100_000:
                    received += len(await far.receive_some(5000))
        await near.wait_send_all_might_not_block()
        await far.send_all(b"hello")
        assert await near.receive_some(3) == b"hel"
        assert await near.receive_some() == b"lo"
        shut_down_sending(near.socket)
        assert await far.receive_some() == b""
        await far.send_all(b"and back")
        assert await near.receive_some() == b"and back"


async def test_what_has_come_already() -> None:
    near, far = connected_pair()
    async with near, far:
        assert near.receive_now() == b""
        await far.send_all(b"hello")
        await near.wait_readable()
        assert near.receive_now() == b"hello"
        await far.aclose()
        await near.wait_readable()
        assert near.receive_now() == b""
    assert near.receive_now() == b""


async def test_a_closed_stream() -> None:
    near, far = connected_pair()
    async with far:
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await near.receive_some()

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            await near.aclose()
        near.close()
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await near.wait_readable()
        with pytest.raises(trio.ClosedResourceError):
            await near.wait_writable()
        shut_down_sending(near.socket)
        assert await far.receive_some() == b""


async def test_it_is_closed_while_it_sends() -> None:
    near, far = connected_pair()
    async with far, trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await near.send_all(b"x" * 1_000_000)

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        near.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_on_its_way_when_it_is_closed(*, at_once: bool) -> None:
    near, far = connected_pair()
    async with far:
        sent = near.socket.send(b"x" * 100_000)
        near.close(at_once=at_once)
        received = 0
        try:
            while data := await far.receive_some(10_000):
                received += len(data)
        except trio.BrokenResourceError:
            received = -1
        assert received == (-1 if at_once else sent)


async def test_a_peer_that_resets() -> None:
    near, far = connected_pair()
    close_socket(far.socket, at_once=True)
    async with near:
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")
        shut_down_sending(near.socket)


async def test_a_peer_that_resets_while_it_is_waited_for() -> None:
    near, far = connected_pair()
    async with near:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    with pytest.raises(trio.BrokenResourceError):
                        await near.send_all(b"x" * 1_000_000)

                async def receive() -> None:
                    with suppress(trio.BrokenResourceError):  # or nothing, if the sender was told first
                        assert await near.receive_some(10) == b""

                nursery.start_soon(send)
                nursery.start_soon(receive)
                await wait_all_tasks_blocked()
                close_socket(far.socket, at_once=True)


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
            far.socket.send(b"at last")
            await wait_readable(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wake_up)
    async with near, far:
        assert await near.receive_some() == b"at last"
    assert wakeups == 3


def test_a_socket_that_is_closed_already() -> None:
    sock = socket.socket()
    sock.close()
    close_socket(sock)
    shut_down_sending(sock)
