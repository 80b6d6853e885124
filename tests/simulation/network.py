"""Connections in memory that delay, stall, fragment, reset, half-close, and lose without a word.

A node has its end as a non-blocking socket, so the outbox takes the way that it takes with the kernel.
"""

import errno
import math
import socket
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, cast

import trio
from attrs import Factory, define, frozen

from localful_ws.server.tcp import TcpStream

from .agenda import Agenda

_NEVER_FULL = 1 << 30
# Of a connection, so many reads are kept small. What is long would take for ever.
_FRAGMENTS = 60


@frozen
class NetworkPlan:
    """What connections are like.

    Attributes:
        delay: The least and the most seconds that bytes are under way.
        tick: Bytes arrive at multiples of so many seconds; 0 for any moment.
        window: Bytes that a device's kernel takes before the device has read them.
        fragment: The most bytes that are received at once, drawn for each read; 0 for all there are.
        short_writes: How often a socket takes less than it could.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    tick: float = 0.0
    window: int = 65536
    fragment: int = 0
    short_writes: float = 0.0


class Peer(Protocol):
    """A device's side of a connection."""

    def heard(self, data: bytes, written: float) -> None:
        """Take bytes, the last of which the node wrote at that moment."""
        ...

    def hung_up(self, *, reset: bool) -> None:
        """Take note that nothing more will come."""
        ...


@define(eq=False)
class Pipe:
    """One direction of a connection.

    Attributes:
        waiting: What has arrived, with the moment when it was written.
        size: Bytes that are under way or wait.
        over: Whether nothing follows what is under way.
        ended: Whether that has arrived.
    """

    window: int
    flying: deque[tuple[float, bytes, float]] = Factory(deque)
    waiting: deque[tuple[bytes, float]] = Factory(deque)
    size: int = 0
    over: bool = False
    ended: bool = False
    scheduled: bool = False


class Link:
    """A connection between a device and a node.

    Args:
        agenda: When things arrive.
        random: Draws delays and sizes.
        plan: What the network is like.

    Attributes:
        peer: The device; it is told what arrives.
        reading: Whether the device reads.
        reset: Whether the connection is reset.
        reset_by_kernel: Whether that is because the node closed it with bytes unread.
        dark: Whether all that is sent is lost.
        opened: When the node wrote its first bytes.
        closed: When the node closed its end.
        heard_by_node: When the node last got bytes.
    """

    def __init__(self, agenda: Agenda, random: Random, plan: NetworkPlan) -> None:
        self.peer: Peer | None = None
        self.reading = True
        self.reset = False
        self.reset_by_kernel = False
        self.dark = False
        self.opened: float | None = None
        self.closed: float | None = None
        self.heard_by_node: float | None = None
        self.up = Pipe(_NEVER_FULL)
        self.down = Pipe(plan.window)
        self._agenda = agenda
        self._random = random
        self._plan = plan
        self._told_end = False
        self._fragments = _FRAGMENTS if plan.fragment else 0
        self.stream = SimulatedTcp(self)

    # --- the device's end ---

    def send(self, data: bytes) -> None:
        """Send from the device. What can't arrive is lost."""
        if not (self.reset or self.up.over or self.dark):
            self._launch(self.up, data, self._arrive_up)

    def send_eof(self) -> None:
        """Send nothing more from the device, which may go on reading."""
        if not self.up.over and not self.reset:
            self.up.over = True
            self._schedule(self.up, self._arrive_up)

    def read(self, size: int) -> None:
        """Read so many bytes of what waits."""
        self._consume(size)

    def go_on_reading(self) -> None:
        """Read from now on what arrives."""
        self.reading = True
        self._consume(_NEVER_FULL)

    def break_off(self) -> None:
        """Reset the connection: both ends are told, and what was under way is lost."""
        if self.reset:
            return
        self.reset = True
        self.up.flying.clear()
        self.up.waiting.clear()
        self.stream.wake()
        self._tell_end()

    def go_dark(self) -> None:
        """Lose all that is sent from now on, without a word to either end."""
        self.dark = True
        self.up.flying.clear()
        self.down.flying.clear()

    # --- the node's end ---

    def take_from_node(self, data: bytes) -> int:
        """Take what fits, as a kernel does."""
        if self.reset:
            raise OSError(errno.ECONNRESET, "Connection reset by peer")
        now = trio.current_time()
        if self.opened is None:
            self.opened = now
        room = self.down.window - self.down.size
        size = min(room, len(data))
        if size <= 0:
            raise BlockingIOError
        if size > 1 and self._plan.short_writes and self._random.random() < self._plan.short_writes:
            size = self._random.randint(1, size)
        if self.dark:
            # The kernel keeps what is not acknowledged.
            self.down.size += size
        else:
            self._launch(self.down, data[:size] if size < len(data) else data, self._arrive_down)
        return size

    def has_room(self) -> bool:
        """Whether the node's end takes something, or fails at once."""
        return self.reset or self.down.size < self.down.window

    def give_to_node(self, max_bytes: int) -> bytes:
        """Give what has arrived, or some of it."""
        waiting = self.up.waiting
        limit = max_bytes
        if self._fragments:
            self._fragments -= 1
            limit = min(limit, self._random.randint(1, self._plan.fragment))
        data, written = waiting.popleft()
        if len(data) > limit:
            waiting.appendleft((data[limit:], written))
            data = data[:limit]
        self.up.size -= len(data)
        self.heard_by_node = trio.current_time()
        return data

    def close_from_node(self, *, sending_only: bool = False) -> None:
        """The node closes its end, or says that it will send nothing more."""
        if not sending_only and self.closed is None:
            self.closed = trio.current_time()
            if self.up.waiting and not self.reset:
                # A kernel resets a connection that is closed with bytes unread.
                self.reset = self.reset_by_kernel = True
                if not self.dark:
                    self._agenda.after(self._delay(), self._tell_end)
                return
        if not self.down.over:
            self.down.over = True
            if not (self.dark or self.reset):
                self._schedule(self.down, self._arrive_down)

    # --- between them ---

    def _delay(self) -> float:
        low, high = self._plan.delay
        return low if low == high else self._random.uniform(low, high)

    def _launch(self, pipe: Pipe, data: bytes, arrive: Callable[[], None]) -> None:
        now = trio.current_time()
        arrival = now + self._delay()
        if self._plan.tick:
            arrival = self._plan.tick * math.ceil(arrival / self._plan.tick - 1e-6)
        if pipe.flying and pipe.flying[-1][0] > arrival:
            arrival = pipe.flying[-1][0]
        pipe.flying.append((arrival, data, now))
        pipe.size += len(data)
        self._schedule(pipe, arrive)

    def _schedule(self, pipe: Pipe, arrive: Callable[[], None]) -> None:
        if not pipe.scheduled:
            pipe.scheduled = True
            self._agenda.at(pipe.flying[0][0] if pipe.flying else trio.current_time() + self._delay(), arrive)

    def _land(self, pipe: Pipe, arrive: Callable[[], None]) -> bool:
        pipe.scheduled = False
        now = trio.current_time() + 1e-9
        landed = False
        while pipe.flying and pipe.flying[0][0] <= now:
            _, data, written = pipe.flying.popleft()
            pipe.waiting.append((data, written))
            landed = True
        if pipe.flying:
            self._schedule(pipe, arrive)
        elif pipe.over and not self.dark:
            pipe.ended = True
            landed = True
        return landed

    def _arrive_up(self) -> None:
        if self._land(self.up, self._arrive_up) and not self.reset:
            self.stream.wake()

    def _arrive_down(self) -> None:
        if not self.reset and self._land(self.down, self._arrive_down) and self.reading:
            self._consume(_NEVER_FULL)

    def _consume(self, size: int) -> None:
        pipe = self.down
        was_full = pipe.size >= pipe.window
        while pipe.waiting and size > 0 and not self.reset:
            data, written = pipe.waiting.popleft()
            if len(data) > size:
                pipe.waiting.appendleft((data[size:], written))
                data = data[:size]
            size -= len(data)
            pipe.size -= len(data)
            if self.peer is not None:
                self.peer.heard(data, written)
        if was_full and pipe.size < pipe.window:
            self.stream.wake_writer()
        if pipe.ended and not pipe.waiting:
            self._tell_end()

    def _tell_end(self) -> None:
        if not self._told_end and self.peer is not None:
            self._told_end = True
            self.peer.hung_up(reset=self.reset)


class _Socket:
    """The node's end, as far as a stream needs a socket."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def send(self, data: bytes | memoryview) -> int:
        if self._link.closed is not None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return self._link.take_from_node(bytes(data))

    def sendmsg(self, buffers: Sequence[bytes | memoryview]) -> int:
        return self.send(b"".join(buffers))

    def shutdown(self, how: int) -> None:
        if self._link.reset or how != socket.SHUT_WR:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self._link.close_from_node(sending_only=True)

    def fileno(self) -> int:
        return 7 if self._link.closed is None else -1


class SimulatedTcp(TcpStream):
    """A `TcpStream` whose socket is one end of a `Link`."""

    __slots__ = ("_link", "_reader", "_writer")

    def __init__(self, link: Link) -> None:
        super().__init__(cast("socket.socket", _Socket(link)))
        self._link = link
        self._reader: trio.lowlevel.Task | None = None
        self._writer: trio.lowlevel.Task | None = None

    async def wait_writable(self) -> None:
        self._check_open()
        if self._link.has_room():
            await trio.lowlevel.checkpoint()
        else:
            if self._writer is not None:
                raise trio.BusyResourceError("another task waits to write")
            self._writer = trio.lowlevel.current_task()

            def forget(_: Any) -> trio.lowlevel.Abort:
                self._writer = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(forget)
        self._check_open()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self._check_open()
        link = self._link
        if link.up.waiting or link.up.ended or link.reset:
            await trio.lowlevel.checkpoint()
        else:
            if self._reader is not None:
                raise trio.BusyResourceError("another task waits to read")
            self._reader = trio.lowlevel.current_task()

            def forget(_: Any) -> trio.lowlevel.Abort:
                self._reader = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(forget)
        self._check_open()
        if link.reset:
            raise trio.BrokenResourceError("The connection is broken.")
        if not link.up.waiting:
            return b""
        return link.give_to_node(max_bytes or 4096)

    def close_now(self) -> None:
        if self._link.closed is None:
            self._link.close_from_node()
            self.wake()

    def wake(self) -> None:
        """Let whoever waits here look again."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            trio.lowlevel.reschedule(reader)
        if self._link.reset or self._link.closed is not None:
            self.wake_writer()

    def wake_writer(self) -> None:
        """Let whoever waits to write go on."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            trio.lowlevel.reschedule(writer)

    def _check_open(self) -> None:
        if self._link.closed is not None:
            raise trio.ClosedResourceError("The stream is closed.")
