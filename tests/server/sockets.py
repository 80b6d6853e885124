"""Sockets that do what a test says, and a poller that looks at them, in place of the kernel."""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import cast

import trio
from attrs import Factory, define

from localful_ws.tcp import TcpStream

IN, OUT, ERR, HUP = 0x001, 0x004, 0x008, 0x010  # EPOLLIN and so on
ENDLESS = 1 << 40


@define(eq=False)
class FakeSocket:
    """The server's end of a connection.

    Attributes:
        poller: Is told when something changes.
        number: The descriptor; -1 once closed.
        incoming: What has come and is not received.
        eof: Whether nothing more comes.
        reset: Whether the connection is reset.
        room: How many bytes it takes before it says "not now".
        sent: What it has taken.
        shut: Whether the server has said that nothing more comes.
        lingers: Whether what it has taken would still leave when it is closed.
        closings: How often it was closed.
        receiving: What happens each time the server receives.
    """

    poller: "FakePoller"
    number: int
    incoming: bytearray = Factory(bytearray)
    eof: bool = False
    reset: bool = False
    room: int = ENDLESS
    sent: bytearray = Factory(bytearray)
    shut: bool = False
    lingers: bool = True
    closings: int = 0
    receiving: Callable[[], object] = lambda: None

    # --- the other end ---

    def feed(self, *data: bytes) -> None:
        self.incoming += b"".join(data)
        self.poller.changed()

    def end(self) -> None:
        self.eof = True
        self.poller.changed()

    def break_off(self) -> None:
        self.reset = True
        self.poller.changed()

    def make_room(self, size: int = ENDLESS) -> None:
        self.room += size
        self.poller.changed()

    @property
    def readiness(self) -> int:
        """What the kernel would say."""
        if self.reset:
            return IN | OUT | ERR | HUP
        ready = IN if self.incoming or self.eof else 0
        return ready | (OUT if self.room else 0) | (HUP if self.eof and self.shut else 0)

    # --- as a socket ---

    def fileno(self) -> int:
        return self.number

    def getpeername(self) -> tuple[str, int]:
        self._check()
        return "192.0.2.1", 1024 + self.number % 1024

    def recv(self, size: int) -> bytes:
        self._check()
        if not self.incoming and not self.eof:
            raise BlockingIOError
        data = bytes(self.incoming[:size])
        del self.incoming[:size]
        self.receiving()
        return data

    def send(self, data: bytes | memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        self._check()
        data = b"".join(buffers)
        if data and not self.room:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.sent += data[:size]
        self.room -= size
        self.poller.changed()
        return size

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        self.lingers = False

    def shutdown(self, how: int) -> None:
        self._check()
        assert how == socket.SHUT_WR
        self.shut = True
        self.poller.changed()

    def close(self) -> None:
        assert self.number != -1, "closed twice"
        self.closings += 1
        self.poller.give_back(self)
        self.number = -1

    def _check(self) -> None:
        if self.number == -1:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if self.reset:
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


class FakePoller:
    """An epoll over such sockets. What is ready it names in any order, and a number is given anew at once.

    Args:
        random: Shuffles.

    Attributes:
        looked_at: What it looks for, by descriptor.
        polls: How often it was asked.
        most: How many it names at once.
        full: Whether nobody can be registered any more.
    """

    def __init__(self, random: Random | None = None) -> None:
        self.looked_at: dict[int, int] = {}
        self.polls = 0
        self.most = 256
        self.full = False
        self.is_closed = False
        self._random = random or Random(0)
        self._sockets: dict[int, FakeSocket] = {}
        self._change = trio.Event()

    # --- the kernel ---

    def socket(self) -> FakeSocket:
        """Make a socket, with the lowest number that is free."""
        # Beyond what a process may have: Trio is told of them, too, and must not know them.
        number = next(number for number in range(1 << 24, 1 << 25) if number not in self._sockets)
        self._sockets[number] = FakeSocket(self, number)
        return self._sockets[number]

    def give_back(self, sock: FakeSocket) -> None:
        assert sock.number not in self.looked_at, "closed while it is looked at"
        del self._sockets[sock.number]
        self.changed()

    def open_sockets(self) -> list[FakeSocket]:
        return list(self._sockets.values())

    def changed(self) -> None:
        change, self._change = self._change, trio.Event()
        change.set()

    async def wait_for_change(self) -> None:
        await self._change.wait()

    async def wait_for(self, sock: FakeSocket, events: int) -> None:
        """Wait as a task of Trio's own does, for one socket."""
        await trio.lowlevel.checkpoint()
        while not sock.readiness & events:
            await self._change.wait()
            if sock.number == -1:
                raise trio.ClosedResourceError

    # --- as a poller ---

    def register(self, fd: int, eventmask: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        assert fd in self._sockets
        assert fd not in self.looked_at
        self.looked_at[fd] = eventmask
        self.changed()

    def modify(self, fd: int, eventmask: int) -> None:
        assert fd in self.looked_at
        self.looked_at[fd] = eventmask
        self.changed()

    def unregister(self, fd: int) -> None:
        del self.looked_at[fd]

    def poll(self) -> Iterable[tuple[int, int]]:
        self.polls += 1
        ready = self._ready()
        self._random.shuffle(ready)
        return ready[: self.most]

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._ready():
            await self._change.wait()

    def close(self) -> None:
        self.is_closed = True

    def _ready(self) -> list[tuple[int, int]]:
        found = [
            (fd, self._sockets[fd].readiness & (events | ERR | HUP)) for fd, events in self.looked_at.items()
        ]
        return [(fd, ready) for fd, ready in found if ready]


class FakeTcp(TcpStream):
    """A `TcpStream` on such a socket."""

    def __init__(self, sock: FakeSocket) -> None:
        super().__init__(cast("socket.socket", sock))
        self._sock = sock

    async def wait_readable(self) -> None:
        await self._wait(IN)

    async def wait_writable(self) -> None:
        await self._wait(OUT)

    async def _wait(self, events: int) -> None:
        if self._sock.number == -1:
            raise trio.ClosedResourceError
        await self._sock.poller.wait_for(self._sock, events)


class PeerStream(trio.abc.Stream):
    """The device's end of a connection to such a socket.

    Args:
        sock: The socket.
    """

    def __init__(self, sock: FakeSocket) -> None:
        self.sock = sock

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self.sock.number == -1 or self.sock.reset:
            raise trio.BrokenResourceError
        self.sock.feed(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        sock = self.sock
        while not sock.sent and sock.number != -1 and not sock.shut and not sock.reset:
            await sock.poller.wait_for_change()
        if sock.reset or not (sock.lingers or sock.number != -1):
            raise trio.BrokenResourceError
        data = bytes(sock.sent[:max_bytes])
        del sock.sent[:max_bytes]
        sock.make_room(len(data))
        return data

    async def aclose(self) -> None:
        self.sock.end()
        await trio.lowlevel.checkpoint()


def fake_pair(poller: FakePoller, window: int = ENDLESS) -> tuple[PeerStream, FakeTcp]:
    """A connection: the device's end and the server's.

    Args:
        poller: The kernel.
        window: How many bytes the kernel takes before the device has read them.
    """
    sock = poller.socket()
    sock.room = window
    return PeerStream(sock), FakeTcp(sock)
