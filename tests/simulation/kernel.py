"""What a node's process has of the kernel: non-blocking sockets, the numbers of descriptors, and an epoll.

It does what Linux does, and complains about what is forgiven there and yet wrong.
"""

import errno
import heapq
import socket
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import cast

import trio

from localful_ws.tcp import TcpStream

from .network import Link

# No descriptor of this process has such a number: Trio is told when one is closed.
_FIRST = 1_000_000
_AT_ONCE = 256
_IN, _OUT, _ERR, _HUP = 0x001, 0x004, 0x008, 0x010
_BROKEN = _ERR | _HUP
_SOME_ONLY = 0.25
"""How often only some of what is ready is told."""


class Kernel:
    """Gives out descriptors, the lowest free one first: a number is another's as soon as it is given back.

    Args:
        complain: Called with what is wrong.
        random: Draws what is told of readiness, and in which order.
        work: Called when the node begins to take what has come: it may take its time.

    Attributes:
        sockets: What is open.
        poller: The epoll.
    """

    def __init__(self, complain: Callable[[str], None], random: Random, work: Callable[[], None]) -> None:
        self.complain = complain
        self.work = work
        self.sockets: dict[int, SimulatedSocket] = {}
        self.poller = SimulatedPoller(self, random)
        self._free: list[int] = []

    def accept(self, link: Link) -> "SimulatedSocket":
        """Open a socket for the node's end of a connection."""
        number = heapq.heappop(self._free) if self._free else _FIRST + len(self.sockets)
        sock = self.sockets[number] = SimulatedSocket(self, link, number)
        return sock

    def give_back(self, number: int) -> None:
        """A socket is closed."""
        del self.sockets[number]
        heapq.heappush(self._free, number)


class SimulatedSocket:
    """The node's end of a connection.

    Args:
        kernel: Where it is open.
        link: The connection.
        number: Its descriptor.
    """

    __slots__ = ("_kernel", "_linger", "_link", "_number", "_waiting")

    def __init__(self, kernel: Kernel, link: Link, number: int) -> None:
        self._kernel = kernel
        self._link = link
        self._number = number
        self._linger = True
        self._waiting = trio.lowlevel.ParkingLot()
        link.changed = self._changed

    # --- as the daemon sees it ---

    def fileno(self) -> int:
        return self._number

    def send(self, data: bytes | memoryview) -> int:
        self._check_open("sent to")
        self._raise_error()
        if self._link.reset or self._link.down.over:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return self._link.take_from_node(bytes(data)) if data else 0

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        return self.send(b"".join(buffers))

    def recv(self, size: int) -> bytes:
        self._check_open("read")
        self._kernel.work()
        link = self._link
        if link.up.waiting:
            return link.give_to_node(size)
        self._raise_error()
        if link.reset or link.up.ended:
            return b""
        self._kernel.complain("a socket was read in which there was nothing")
        raise BlockingIOError

    def shutdown(self, how: int) -> None:
        self._check_open("shut down")
        if self._link.reset or how != socket.SHUT_WR:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self._link.end_from_node()
        self._changed()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self._check_open("given an option")
        if (level, option) != (socket.SOL_SOCKET, socket.SO_LINGER):
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        self._linger = False

    def close(self) -> None:
        self._check_open("closed")
        self._kernel.poller.closed(self._number)
        self._kernel.give_back(self._number)
        self._number = -1
        self._link.close_from_node(at_once=not self._linger)
        self._waiting.unpark_all()

    # --- as the kernel sees it ---

    def unread_since(self) -> float | None:
        """When the device sent what the node has not read; None if it has read everything."""
        return self._link.up.waiting[0][1] if self._link.up.waiting else None

    def ready(self) -> int:
        """What of it is ready, as epoll has it."""
        link = self._link
        over = link.reset or (link.up.ended and link.down.over)
        return (
            (_IN if link.up.waiting or link.up.ended or link.reset else 0)
            | (_OUT if link.reset or link.down.over or link.has_room() else 0)
            | (_ERR if link.error else 0)
            | (_HUP if over else 0)
        )

    async def wait(self, events: int) -> None:
        """Wait until something is ready; raises `trio.ClosedResourceError` if it is closed meanwhile."""
        await trio.lowlevel.checkpoint()
        while self._number != -1 and not self.ready() & (events | _BROKEN):
            await self._waiting.park()
        if self._number == -1:
            raise trio.ClosedResourceError("The stream is closed.")

    def _changed(self) -> None:
        if self._number != -1:
            self._waiting.unpark_all()
            self._kernel.poller.changed(self._number)

    def _check_open(self, what: str) -> None:
        if self._number == -1:
            self._kernel.complain(f"a socket was {what} that is closed")
            raise OSError(errno.EBADF, "Bad file descriptor")

    def _raise_error(self) -> None:
        # Whoever comes first is told, and nobody else.
        if self._link.error:
            self._link.error = False
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


class SimulatedPoller:
    """An epoll, level-triggered. What is ready comes in any order, and now and then only some of it.

    Args:
        kernel: Whose sockets it looks at.
        random: What the order is drawn from.
    """

    def __init__(self, kernel: Kernel, random: Random) -> None:
        self._kernel = kernel
        self._random = random
        self._wanted: dict[int, int] = {}
        # Those that may be ready: all that are, and some that were.
        self._candidates: set[int] = set()
        self._waiting = trio.lowlevel.ParkingLot()
        self._closed = False

    def __len__(self) -> int:
        """How many descriptors are looked at."""
        return len(self._wanted)

    def wanted(self, number: int) -> int:
        """What a descriptor is looked at for."""
        return self._wanted.get(number, 0)

    # --- as the daemon sees it ---

    def register(self, fd: int, eventmask: int, /) -> None:
        self._check_open()
        if fd not in self._kernel.sockets:
            self._kernel.complain("a closed socket was to be looked at")
            raise OSError(errno.EBADF, "Bad file descriptor")
        if fd in self._wanted:
            self._kernel.complain("a socket was to be looked at twice")
            raise FileExistsError(errno.EEXIST, "File exists")
        self._wanted[fd] = eventmask
        self.changed(fd)

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._check_looked_at(fd)
        self._wanted[fd] = eventmask
        self.changed(fd)

    def unregister(self, fd: int, /) -> None:
        self._check_looked_at(fd)
        del self._wanted[fd]
        self._candidates.discard(fd)

    def poll(self) -> Iterable[tuple[int, int]]:
        self._check_open()
        ready = [(fd, events) for fd in sorted(self._candidates) if (events := self._ready(fd))]
        self._candidates = {fd for fd, _ in ready}
        self._random.shuffle(ready)
        if len(ready) > 1 and self._random.random() < _SOME_ONLY:
            del ready[self._random.randrange(1, len(ready)) :]
        return ready[:_AT_ONCE]

    async def wait(self) -> None:
        self._check_open()
        await trio.lowlevel.checkpoint()
        while not any(map(self._ready, self._candidates)):
            self._candidates.clear()
            await self._waiting.park()

    def close(self) -> None:
        self._check_open()
        self._closed = True
        if self._wanted:
            self._kernel.complain(f"{len(self._wanted)} sockets are left that were looked at")

    # --- as the kernel sees it ---

    def changed(self, fd: int) -> None:
        """A socket may be ready for something now."""
        if self._ready(fd):
            self._candidates.add(fd)
            self._waiting.unpark_all()

    def closed(self, fd: int) -> None:
        """A socket is about to be closed."""
        if fd in self._wanted:
            self._kernel.complain("a socket was closed that is looked at")
            self.unregister(fd)

    def _ready(self, fd: int) -> int:
        if fd not in self._wanted:
            return 0
        return self._kernel.sockets[fd].ready() & (self._wanted[fd] | _BROKEN)

    def _check_looked_at(self, fd: int) -> None:
        self._check_open()
        if fd not in self._wanted:
            self._kernel.complain("a socket is not looked at, and was to be no more, or for something else")
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def _check_open(self) -> None:
        if self._closed:
            self._kernel.complain("the epoll was used after it was closed")
            raise ValueError("I/O operation on closed epoll object")


class SimulatedTcp(TcpStream):
    """A `TcpStream` on a simulated socket, which Trio can't wait for."""

    __slots__ = ("_simulated",)

    def __init__(self, sock: SimulatedSocket) -> None:
        super().__init__(cast("socket.socket", sock))
        self._simulated = sock

    def receive_now(self) -> bytes:
        # Here alone it is no mistake to read where there is nothing.
        return super().receive_now() if self._simulated.ready() & _IN else b""

    async def wait_readable(self) -> None:
        await self._simulated.wait(_IN)

    async def wait_writable(self) -> None:
        await self._simulated.wait(_OUT)


class OtherStream(trio.abc.Stream):
    """A stream that is no socket's, as one with TLS."""

    def __init__(self, sock: SimulatedSocket) -> None:
        self._stream = SimulatedTcp(sock)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_writable()

    async def aclose(self) -> None:
        await self._stream.aclose()
