"""What waits to be sent: the frames of one device, and the bounds for it and for the whole node.

A device that takes everything at once has no send buffer. Frames travel in pieces: bytes that go to the
kernel as they are, and are the same for every device that gets them.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from attrs import define, field, frozen

from localful_ws.server.timers import Timers

GATHER = 64
"""How many pieces are handed to the kernel at once; IOV_MAX is 1024."""

_PIECE_BYTES = 65536  # what is longer gains nothing from going out in one piece
_COPIED_BYTES = 4096  # frames up to this size are joined; of longer ones no copy is made
# What Python takes for a piece beside its bytes.
_OVERHEAD = 256
_SHORT = 0.9  # of the node's bound


@define(eq=False)
class Piece:
    """Whole frames in one buffer.

    Attributes:
        data: The frames. A slice of the history stays one.
        ends: Where in ``data`` each frame ends.
        holders: In how many send buffers it waits.
    """

    data: bytes | memoryview
    ends: Sequence[int]
    holders: int = 0

    @property
    def cost(self) -> int:
        """About how much memory it takes. A slice of the history is counted there."""
        return _OVERHEAD + (len(self.data) if isinstance(self.data, bytes) else 0)


def piece_of(frame: bytes | memoryview) -> Piece:
    """Make a piece of one frame."""
    return Piece(frame, (len(frame),))


def pieces_of(frames: Sequence[bytes | memoryview]) -> list[Piece]:
    """Join frames to pieces of some 64 KiB; long ones are pieces of their own, without a copy."""
    pieces: list[Piece] = []
    joined: list[bytes | memoryview] = []
    ends: list[int] = []
    size = 0
    for frame in frames:
        if joined and (size + len(frame) > _PIECE_BYTES or len(frame) > _COPIED_BYTES):
            pieces.append(Piece(b"".join(joined), ends))
            joined, ends, size = [], [], 0
        if len(frame) > _COPIED_BYTES:
            pieces.append(piece_of(frame))
            continue
        size += len(frame)
        joined.append(frame)
        ends.append(size)
    if joined:
        pieces.append(piece_of(joined[0]) if len(joined) == 1 else Piece(b"".join(joined), ends))
    return pieces


class Slow(Protocol):
    """Who has a send buffer."""

    def close_slow_consumer(self) -> None:
        """Close, and have what waits forgotten: `SendBudget.give_up` or `SendBudget.close`."""
        ...

    def abort(self) -> None:
        """Be gone: `SendBudget.close`."""
        ...


@frozen
class SendLimits:
    """How much may wait to be sent, from the settings.

    Attributes:
        events: Frames beyond which a device is closed when more is to wait for it.
        bytes: Their size, likewise.
        node_bytes: The size of what waits for all devices, counting once what several wait for.
        timeout: Seconds that what is first in a send buffer has to leave.
    """

    events: int
    bytes: int
    node_bytes: int
    timeout: float


@define(eq=False)
class SendBuffer:
    """What waits for one device.

    Attributes:
        since: When what is first got there, in Unix seconds.
        pieces: What waits, the first perhaps sent in part.
        offset: How much of the first piece is sent.
        frames: How many frames there are in the pieces.
        size: How many bytes of them are not sent.
    """

    since: float
    pieces: deque[Piece] = field(factory=deque[Piece])
    offset: int = 0
    frames: int = 0
    size: int = 0

    def head(self) -> list[bytes | memoryview]:
        """What to hand to the kernel next."""
        buffers = [piece.data for piece in islice(self.pieces, GATHER)]
        if self.offset:
            buffers[0] = memoryview(buffers[0])[self.offset :]
        return buffers


class SendBudget:
    """The send buffers of a node. What exceeds the node's bound costs whoever has not read for longest.

    Args:
        limits: The bounds.
        timers: Tell when something has waited for too long.

    Attributes:
        bytes: How much memory it takes that something waits.
        peak_events: The most frames that have waited for one device.
        peak_bytes: Their size.
        due: See `localful_ws.server.timers.Timed`.
    """

    def __init__(self, limits: SendLimits, timers: Timers) -> None:
        self.bytes = 0
        self.peak_events = 0
        self.peak_bytes = 0
        self.due: float | None = None
        self._limits = limits
        self._timers = timers
        # Whose first piece has been first for longest comes first.
        self._waiting: dict[Slow, SendBuffer] = {}
        # Those that are given up, as long as something waits for them.
        self._leaving: dict[Slow, None] = {}
        self._making_room = False

    @property
    def is_short(self) -> bool:
        """Whether so much waits already that nobody should be let in who is to be told much at once."""
        return self.bytes > self._limits.node_bytes * _SHORT

    def is_over(self, buffer: SendBuffer) -> bool:
        """Whether so much waits for a device that nothing may be added."""
        return buffer.frames >= self._limits.events or buffer.size >= self._limits.bytes

    def open(self, owner: Slow, now: float) -> SendBuffer:
        """Make a device's send buffer; `close` gives it back."""
        buffer = self._waiting[owner] = SendBuffer(now)
        if self.due is None:
            self._timers.set(self, now + self._limits.timeout)
        return buffer

    def add(self, buffer: SendBuffer, piece: Piece, sent: int = 0) -> None:
        """Let a piece wait, or what is not sent of it. May close devices, this one perhaps."""
        if sent:
            buffer.offset = sent
        buffer.pieces.append(piece)
        buffer.frames += len(piece.ends)
        buffer.size += len(piece.data) - sent
        self.peak_events = max(self.peak_events, buffer.frames)
        self.peak_bytes = max(self.peak_bytes, buffer.size)
        if not piece.holders:
            self.bytes += piece.cost
        piece.holders += 1
        self._make_room()

    def sent(self, owner: Slow, buffer: SendBuffer, size: int, now: float) -> None:
        """Take note that so many bytes of what waits for a device are sent."""
        buffer.size -= size
        buffer.offset += size
        while buffer.pieces and buffer.offset >= len(buffer.pieces[0].data):
            piece = buffer.pieces.popleft()
            buffer.offset -= len(piece.data)
            buffer.frames -= len(piece.ends)
            buffer.since = now
            self._release(piece)
        if buffer.since == now and owner in self._waiting:
            self._waiting[owner] = self._waiting.pop(owner)

    def give_up(self, owner: Slow, buffer: SendBuffer) -> None:
        """Forget what waits for a device, but for the frame whose beginning is sent.

        It is closed then. If the memory is short it gives way before all others.
        """
        self._waiting.pop(owner, None)
        self._leaving[owner] = None
        torn, sent = None, 0
        if buffer.offset:
            first = buffer.pieces[0]
            frame = bisect_right(first.ends, buffer.offset)
            start = first.ends[frame - 1] if frame else 0
            sent = buffer.offset - start
            if sent:
                torn = piece_of(bytes(first.data[start : first.ends[frame]]))
        self._empty(buffer)
        if torn is not None:
            self.add(buffer, torn, sent)

    def close(self, owner: Slow, buffer: SendBuffer) -> None:
        """Give a device's send buffer back, with what waits in it."""
        self._waiting.pop(owner, None)
        self._leaving.pop(owner, None)
        self._empty(buffer)

    def time_passed(self, now: float) -> float | None:
        """Close those whose first piece has waited too long; see `localful_ws.server.timers.Timed`."""
        while self._waiting:
            slowest, buffer = next(iter(self._waiting.items()))
            due = buffer.since + self._limits.timeout
            if now < due:
                return due
            slowest.close_slow_consumer()
        return None

    def _make_room(self) -> None:
        # Whoever has to go is told so, which takes some room: for that nobody is called from in here.
        if self._making_room:
            return
        self._making_room = True
        try:
            while self.bytes > self._limits.node_bytes and (self._leaving or self._waiting):
                # Who has been told and doesn't read that either goes first, or the rest of what such devices
                # wait for could be all there is room for.
                if self._leaving:
                    next(iter(self._leaving)).abort()
                else:
                    next(iter(self._waiting)).close_slow_consumer()
        finally:
            self._making_room = False

    def _empty(self, buffer: SendBuffer) -> None:
        while buffer.pieces:
            self._release(buffer.pieces.popleft())
        buffer.offset = buffer.frames = buffer.size = 0

    def _release(self, piece: Piece) -> None:
        piece.holders -= 1
        if not piece.holders:
            self.bytes -= piece.cost
