"""Stand-ins for the kernel's side of a connection that take what a test says, and no more; and a real one."""

import errno
import socket
from collections.abc import Sequence

import trio
from attrs import Factory, define

from localful_ws.tcp import TcpStream

ENDLESS = 1 << 40


@define(eq=False)
class Kernel:
    """Takes bytes while there is room: the line of a device, or what is under a stream.

    Attributes:
        room: How many bytes it takes before it says "not now".
        taken: What it has taken.
        calls: How often it was handed something.
        failure: What it raises instead: an `OSError` if the connection is broken.
    """

    room: int = ENDLESS
    taken: bytearray = Factory(bytearray)
    calls: int = 0
    failure: Exception | None = None
    changed: trio.Event = Factory(trio.Event)

    def make_room(self, size: int) -> None:
        self.room += size
        self._change()

    def break_down(self) -> None:
        self.failure = OSError(errno.EPIPE, "Broken pipe")
        self._change()

    def send(self, data: bytes | memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        data = b"".join(buffers)
        if data and not self.room:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.taken += data[:size]
        self.room -= size
        return size

    async def wait_writable(self) -> None:
        while not (self.room or self.failure):
            await self.changed.wait()
        await trio.lowlevel.checkpoint()

    def _change(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class ScriptedStream(trio.abc.Stream):
    """A stream without a socket of its own, as TLS is, on such a kernel. What it receives is given to it.

    Attributes:
        kernel: As given.
        closed: Whether it was closed.
    """

    def __init__(self, kernel: Kernel, *received: bytes) -> None:
        self.kernel = kernel
        self.closed = False
        self._received = list(received)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(bytes(data))
        while rest:
            await self.kernel.wait_writable()
            try:
                rest = rest[self.kernel.send(rest) :]
            except OSError:
                raise trio.BrokenResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        await self.kernel.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next of what was given; after it the peer has reset the connection."""
        await trio.lowlevel.checkpoint()
        if not self._received:
            raise trio.BrokenResourceError
        return self._received.pop(0)

    async def aclose(self) -> None:
        self.closed = True
        self.kernel.break_down()
        await trio.lowlevel.checkpoint()


def connected_pair() -> tuple[TcpStream, TcpStream]:
    """Both ends of a connection with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        far = socket.socket()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far.connect(listening.getsockname())
        near, _ = listening.accept()
    for end in (near, far):
        end.setblocking(False)
    return TcpStream(near), TcpStream(far)
