"""Stand-ins for the kernel's side of a connection that take what a test says, and no more."""

import errno
import socket
from collections.abc import Sequence
from typing import cast

import trio
import trio.testing
from attrs import Factory, define

from localful_ws.server.outbox import Outbox, OutboxPeaks, OutboxPolicy
from localful_ws.server.tcp import TcpStream

ENDLESS = 1 << 40


@define(eq=False)
class Kernel:
    """Takes bytes while there is room.

    Attributes:
        room: How many bytes it takes before it says "not now".
        taken: What it has taken.
        calls: How often it was handed something.
        broken: Whether the connection is.
    """

    room: int = 0
    taken: bytearray = Factory(bytearray)
    calls: int = 0
    broken: bool = False
    changed: trio.Event = Factory(trio.Event)

    def make_room(self, size: int) -> None:
        self.room += size
        self._change()

    def break_down(self) -> None:
        self.broken = True
        self._change()

    def send(self, data: bytes | memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        self.calls += 1
        if self.broken:
            raise OSError(errno.EPIPE, "Broken pipe")
        data = b"".join(buffers)
        if data and not self.room:
            raise BlockingIOError
        size = min(self.room, len(data))
        self.taken += data[:size]
        self.room -= size
        return size

    async def wait_writable(self) -> None:
        while not (self.room or self.broken):
            await self.changed.wait()
        await trio.lowlevel.checkpoint()

    def fileno(self) -> int:
        return -1

    def _change(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class ScriptedTcp(TcpStream):
    """A `TcpStream` on such a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(cast("socket.socket", kernel))
        self.kernel = kernel

    async def wait_writable(self) -> None:
        await self.kernel.wait_writable()

    async def aclose(self) -> None:
        self.kernel.break_down()
        await trio.lowlevel.checkpoint()


class ScriptedStream(trio.abc.Stream):
    """A stream without a socket of its own, as TLS is, on such a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

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
        await trio.lowlevel.checkpoint()
        return b"heard"

    async def aclose(self) -> None:
        self.kernel.break_down()
        await trio.lowlevel.checkpoint()


STREAMS: dict[str, type[ScriptedTcp | ScriptedStream]] = {"tcp": ScriptedTcp, "stream": ScriptedStream}


def make_outbox(
    kind: str, nursery: trio.Nursery, kernel: Kernel, *, events: int = 1000, size: int = 1_000_000
) -> tuple[Outbox, OutboxPeaks]:
    """An outbox on a kernel, and its peaks."""
    peaks = OutboxPeaks()
    return Outbox(STREAMS[kind](kernel), OutboxPolicy(events, size, nursery.start_soon, peaks)), peaks
