"""Devices without a task: one epoll of our own says whose socket has something to read, or room to write.

An epoll's descriptor can itself be waited for, so Trio waits for one descriptor in place of every device's.
"""

import select
import socket
from collections.abc import Callable, Iterable
from typing import Protocol, cast

import trio

from localful_ws.server.websocket import Phase, WebSocket
from localful_ws.tcp import close_socket, shut_down_sending
from localful_ws.wakeup import Signal

_READABLE, _WRITABLE = 0x001, 0x004  # EPOLLIN, EPOLLOUT; the module may be there without them
_BROKEN = 0x008 | 0x010  # EPOLLERR, EPOLLHUP: reported whether asked for or not
_RECEIVE_BYTES = 4096
_DISCARD_BYTES = 65536
_AT_ONCE = 256
_TURN_SECONDS = 0.001


class Poller(Protocol):
    """Readiness of many sockets, level-triggered: an epoll and who waits for it."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Begin to look at a descriptor."""
        ...

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Look for something else."""
        ...

    def unregister(self, fd: int, /) -> None:
        """Look no more."""
        ...

    def poll(self) -> Iterable[tuple[int, int]]:
        """What is ready now: descriptors and what of them. Doesn't wait."""
        ...

    async def wait(self) -> None:
        """Wait until something is ready."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class EpollPoller:
    """The system's epoll, waited for with Trio."""

    def __init__(self) -> None:
        epoll = select.epoll()
        self._epoll = epoll
        self.register: Callable[[int, int], None] = epoll.register
        self.modify: Callable[[int, int], None] = epoll.modify
        self.unregister: Callable[[int], None] = epoll.unregister
        self.close: Callable[[], None] = epoll.close

    def poll(self) -> Iterable[tuple[int, int]]:
        """See `Poller.poll`."""
        return self._epoll.poll(0, _AT_ONCE)

    async def wait(self) -> None:
        """See `Poller.wait`."""
        await trio.lowlevel.wait_readable(self._epoll.fileno())


def system_poller() -> Poller | None:
    """What the system has; None if it has no epoll, and so nobody can be parked."""
    return EpollPoller() if hasattr(select, "epoll") else None


class Parking:
    """Pushes all devices that are parked. Each has a socket for its line, which it owns.

    Args:
        poller: Says what is ready.
        start_soon: Starts what a device has to wait for, in the nursery of the connections.
    """

    def __init__(self, poller: Poller, start_soon: Callable[..., object]) -> None:
        self._poller = poller
        self._start_soon = start_soon
        self._parked: dict[int, tuple[WebSocket, int]] = {}
        # Those a task waits for: they are not read, though their tokens may be verified by now.
        self._verifying: set[WebSocket] = set()
        self._finishing = self._over = False
        self._left = Signal()

    def __len__(self) -> int:
        """How many devices are parked."""
        return len(self._parked)

    def park(self, device: WebSocket) -> None:
        """Push a device from now on, unless it is gone.

        Raises:
            OSError: If the system has no room for it.
        """
        fd = _socket(device).fileno()
        if fd == -1:
            return
        if self._over:
            device.abort()
            return
        interest = self._interest(device)
        self._poller.register(fd, interest)
        self._parked[fd] = device, interest

    def interest_changed(self, device: WebSocket) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        fd = _socket(device).fileno()
        parked = self._parked.get(fd)
        interest = self._interest(device)
        if parked is not None and parked[1] != interest:
            self._parked[fd] = device, interest
            self._poller.modify(fd, interest)

    def stop_sending(self, device: WebSocket) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        shut_down_sending(_socket(device))

    def close(self, device: WebSocket, *, at_once: bool) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        sock = _socket(device)
        # The number may be another's as soon as the socket is closed.
        if self._parked.pop(sock.fileno(), None) is not None:
            self._poller.unregister(sock.fileno())
            self._left.set()
        close_socket(sock, at_once=at_once)

    def finish(self) -> None:
        """Have `run` return when nobody is parked any more."""
        self._finishing = True
        self._left.set()

    async def run(self) -> None:
        """Push until `finish` and nobody is parked, or until cancelled. Then nobody is."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._push)
                while self._parked or not self._finishing:
                    await self._left.wait()
                nursery.cancel_scope.cancel()
        finally:
            # Whoever was cancelled together with this may still come.
            self._over = True
            for device, _ in list(self._parked.values()):
                device.abort()
            self._poller.close()

    async def _push(self) -> None:
        # What a turn had no time for comes first in the next one: the poller might name the same ones first
        # again and again.
        left: list[tuple[int, int, WebSocket]] = []
        while True:
            if left:
                await trio.lowlevel.checkpoint()
            else:
                await self._poller.wait()
                left = [(fd, ready, self._parked[fd][0]) for fd, ready in self._poller.poll()]
                left.reverse()
            until = trio.current_time() + _TURN_SECONDS
            while left:
                self._push_one(*left.pop())
                if trio.current_time() > until:
                    break

    def _push_one(self, fd: int, ready: int, device: WebSocket) -> None:
        parked = self._parked.get(fd)
        if parked is None or parked[0] is not device:
            return  # meanwhile it has left; the number may be another's
        try:
            if ready & _WRITABLE and device.buffer is not None:
                device.writable()
            if ready & (_READABLE | _BROKEN):
                if self._is_read(device):
                    self._receive(device)
                elif ready & _BROKEN:
                    device.lost()
        except Exception:
            device.fail()
        if device.verifying and device not in self._verifying:
            self._verifying.add(device)
            self.interest_changed(device)
            self._start_soon(self._wait, device)

    def _receive(self, device: WebSocket) -> None:
        try:
            discards = device.phase is Phase.DISCARDING
            data = _socket(device).recv(_DISCARD_BYTES if discards else _RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            device.received(data)
        else:
            device.lost()

    async def _wait(self, device: WebSocket) -> None:
        try:
            await device.verify()
        finally:
            self._verifying.remove(device)
        self.interest_changed(device)

    def _is_read(self, device: WebSocket) -> bool:
        # One that closes does not wait for its token any more.
        return device.reading and (device not in self._verifying or device.phase is not Phase.OPEN)

    def _interest(self, device: WebSocket) -> int:
        return (_READABLE if self._is_read(device) else 0) | (_WRITABLE if device.buffer is not None else 0)


def _socket(device: WebSocket) -> socket.socket:
    return cast("socket.socket", device.line)
