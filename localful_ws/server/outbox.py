"""What waits to be sent to one device, and the stream it is sent on.

A frame that goes to many devices is the same bytes for all of them. `Outbox.write` tries it at once on the
non-blocking socket; only what the kernel does not take now is queued, and a flusher task lives only while
something is queued. The WebSocket library is given the outbox as its stream, so its own frames (pongs, the
close handshake) take the same way, in order, and none ends up inside another.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum

import trio
from attrs import define, frozen

from localful_ws.server.tcp import TcpStream

_GATHER = 64  # buffers handed to the kernel at once; IOV_MAX is 1024
_CHUNK = 65536  # bytes handed to a stream that has no socket of its own, TLS for instance


class OutboxFullError(Exception):
    """More is waiting than the device's outbox may hold: a slow consumer."""


@define
class OutboxPeaks:
    """The most that waited in any outbox so far."""

    events: int = 0
    bytes: int = 0


@frozen
class OutboxPolicy:
    """What all outboxes of a node share.

    Attributes:
        max_events: Frames that may wait for one device.
        max_bytes: Bytes that may wait for one device.
        start_soon: Starts a flusher task that survives the caller.
        peaks: Where the most that ever waited is noted.
    """

    max_events: int
    max_bytes: int
    start_soon: Callable[[Callable[[], Awaitable[None]]], None]
    peaks: OutboxPeaks


class _State(Enum):
    OPEN = "open"
    FINISHED = "finished"
    """The last frame is written; what waits is still sent."""
    BROKEN = "broken"
    CLOSED = "closed"


# Looked up for every frame that is sent.
_OPEN = _State.OPEN


def _send_nothing(_frame: bytes | memoryview) -> int:
    return 0


class Outbox(trio.abc.Stream):
    """A bounded outbox that is also the stream to the device.

    Args:
        stream: The device's stream. Frames go straight to the socket if it is a `TcpStream`.
        policy: What this outbox shares with the others.

    Attributes:
        heard: Set whenever bytes came from the device; whoever wants to know resets it.
    """

    __slots__ = ("_bytes", "_policy", "_queue", "_send_now", "_state", "_stream", "_tcp", "heard")

    def __init__(self, stream: trio.abc.Stream, policy: OutboxPolicy) -> None:
        self._stream = stream
        self._policy = policy
        self._tcp = stream if isinstance(stream, TcpStream) else None
        self._send_now: Callable[[bytes | memoryview], int] = (
            _send_nothing if self._tcp is None else self._tcp.socket.send
        )
        # None while nothing waits. An event in the queue is set when everything before it is gone.
        self._queue: deque[bytes | memoryview | trio.Event] | None = None
        self._bytes = 0
        self._state = _State.OPEN
        self.heard = False

    @property
    def waiting_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self._bytes

    @property
    def waiting_events(self) -> int:
        """How many frames wait to be sent, as the limit counts them."""
        return 0 if self._queue is None else len(self._queue)

    def write(self, frame: bytes) -> None:
        """Send one frame; see `write_frames`."""
        self.write_frames(frame, (frame,))

    def write_frames(self, data: bytes | memoryview, frames: Sequence[bytes | memoryview]) -> None:
        """Send whole frames now, or queue them, without waiting.

        After the last frame, and on a stream that is broken or closed, they are dropped: whoever reads from
        the stream is told.

        Args:
            data: The frames joined, which is how they are sent if the kernel takes them now.
            frames: One by one, which is how they are queued and counted if it does not. Then a memoryview is
                copied: what it is a slice of may be large.

        Raises:
            OutboxFullError: If some would have to wait and the outbox is full. It holds whole frames still.
        """
        if self._state is not _OPEN:
            return
        queue = self._queue
        if queue is not None:
            for frame in frames:
                self._enqueue_within_limits(queue, frame)
            return
        try:
            sent = self._send_now(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._stop(_State.BROKEN)
            return
        if sent != len(data):
            self._queue = deque()
            self._policy.start_soon(self._flush)
            self._enqueue_rest(self._queue, frames, sent)

    def write_last(self, frame: bytes) -> None:
        """Like `write`, for a close frame: it is queued however much is waiting, and no frame follows it."""
        self._write_unlimited(frame)
        if self._state is _OPEN:
            self._state = _State.FINISHED

    def discard_waiting(self) -> None:
        """Forget what waits, except the rest of a frame that the device has already got the beginning of."""
        if self._queue is None:
            return
        keep = []
        for index, entry in enumerate(self._queue):
            if isinstance(entry, trio.Event):
                entry.set()
            elif index == 0 and isinstance(entry, memoryview):
                keep.append(entry)
            else:
                self._bytes -= len(entry)
        self._queue.clear()
        self._queue.extend(keep)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data`` after all that waits, and wait until it is gone.

        Raises:
            trio.BrokenResourceError: If the stream broke.
            trio.ClosedResourceError: If it was closed.
        """
        await trio.lowlevel.checkpoint()
        self._write_unlimited(bytes(data))
        await self._wait_sent()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until all that waits is gone; raises what `send_all` raises."""
        await trio.lowlevel.checkpoint()
        await self._wait_sent()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the device; see `trio.abc.ReceiveStream`."""
        data = await self._stream.receive_some(max_bytes)
        self.heard = True
        return data

    async def send_eof(self) -> None:
        """Say that nothing more will be sent, once all that waits is gone; TLS has no way to say so."""
        await self.wait_send_all_might_not_block()
        if self._tcp is not None:
            self._tcp.shut_down_sending()

    async def aclose(self) -> None:
        """Close the stream. What still waits is lost."""
        self._stop(_State.CLOSED)
        await self._stream.aclose()

    def _write_unlimited(self, frame: bytes) -> None:
        if self._queue is None:
            self.write(frame)
        elif self._state is _OPEN:
            self._enqueue(self._queue, frame)

    async def _wait_sent(self) -> None:
        if self._queue is not None:
            sent = trio.Event()
            self._queue.append(sent)
            await sent.wait()
        if self._state is _State.BROKEN:
            raise trio.BrokenResourceError
        if self._state is _State.CLOSED:
            raise trio.ClosedResourceError

    def _enqueue_rest(
        self,
        queue: deque[bytes | memoryview | trio.Event],
        frames: Sequence[bytes | memoryview],
        sent: int,
    ) -> None:
        for frame in frames:
            if sent >= len(frame):
                sent -= len(frame)
            elif sent:
                # A memoryview at the head of the queue marks a frame whose beginning is gone.
                self._enqueue(queue, memoryview(bytes(frame))[sent:])
                sent = 0
            else:
                self._enqueue_within_limits(queue, frame)

    def _enqueue_within_limits(
        self, queue: deque[bytes | memoryview | trio.Event], frame: bytes | memoryview
    ) -> None:
        if len(queue) >= self._policy.max_events or self._bytes + len(frame) > self._policy.max_bytes:
            raise OutboxFullError
        self._enqueue(queue, bytes(frame))

    def _enqueue(self, queue: deque[bytes | memoryview | trio.Event], frame: bytes | memoryview) -> None:
        queue.append(frame)
        self._bytes += len(frame)
        peaks = self._policy.peaks
        peaks.events = max(peaks.events, len(queue))
        peaks.bytes = max(peaks.bytes, self._bytes)

    async def _flush(self) -> None:
        try:
            while self._queue:
                if self._tcp is None:
                    await self._send_chunk(self._queue)
                else:
                    await self._tcp.wait_writable()
                    if self._queue is not None:  # it may have been closed meanwhile
                        self._send_gathered(self._tcp, self._queue)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._stop(_State.BROKEN)
        else:
            self._queue = None

    async def _send_chunk(self, queue: deque[bytes | memoryview | trio.Event]) -> None:
        chunk = bytearray()
        while queue and len(chunk) < _CHUNK:
            entry = queue.popleft()
            if isinstance(entry, trio.Event):
                if chunk:
                    queue.appendleft(entry)
                    break
                entry.set()
            else:
                chunk += entry
        if chunk:
            await self._stream.send_all(chunk)
            self._bytes -= len(chunk)

    def _send_gathered(self, tcp: TcpStream, queue: deque[bytes | memoryview | trio.Event]) -> None:
        buffers: list[bytes | memoryview] = []
        for entry in queue:
            if isinstance(entry, trio.Event) or len(buffers) == _GATHER:
                break
            buffers.append(entry)
        sent = 0
        if buffers:
            with suppress(BlockingIOError):
                sent = tcp.socket.sendmsg(buffers)
        self._bytes -= sent
        for buffer in buffers:
            if sent < len(buffer):
                if sent:
                    queue[0] = memoryview(buffer)[sent:]
                break
            sent -= len(buffer)
            queue.popleft()
        while queue and isinstance(entry := queue[0], trio.Event):
            entry.set()
            queue.popleft()

    def _stop(self, state: _State) -> None:
        if self._state is not _State.CLOSED:
            self._state = state
        queue, self._queue = self._queue, None
        self._bytes = 0
        for entry in queue or ():
            if isinstance(entry, trio.Event):
                entry.set()
