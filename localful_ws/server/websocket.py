"""A device's WebSocket, pushed: bytes in and frames out, what waits to be sent, and how it ends.

It waits for nothing and has no task. `localful_ws.server.device` adds what the messages mean.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from localful_ws.protocol import CloseCode, FrameReader, Received, close_frame
from localful_ws.server.send_buffer import GATHER, Piece, SendBuffer, piece_of, pieces_of
from localful_ws.server.turn import Turn

if TYPE_CHECKING:
    from localful_ws.server.node import Node

# So much may have been under way when our close frame left. Beyond it the device's own is not looked for.
_READ_AFTER_CLOSE = 4096
# One that sends this much although it was told to go is not waited for.
_MOST_AFTER_CLOSE = 1024 * 1024


class Line(Protocol):
    """The way to a device's kernel, without waiting: a non-blocking socket, or what stands in for one."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what can be sent now, and say how much that is.

        Raises:
            BlockingIOError: If that is nothing.
            OSError: If the connection is broken.
        """
        ...

    def sendmsg(self, buffers: Sequence[bytes | memoryview], /) -> int:
        """Send several buffers, as `send` does one."""
        ...


class Pump(Protocol):
    """Whoever pushes a device."""

    def interest_changed(self, device: "WebSocket") -> None:
        """Look at the device's `Device.reading` and `Device.waits` again."""
        ...

    def stop_sending(self, device: "WebSocket") -> None:
        """Tell the peer that nothing more will come, if there is a way to say so."""
        ...

    def close(self, device: "WebSocket", *, at_once: bool) -> None:
        """Close the connection and push the device no more.

        Args:
            device: The device.
            at_once: Whether what the kernel has still to send is thrown away.
        """
        ...


class Phase(Enum):
    """How far a device's WebSocket is on its way to its end (RFC 6455, section 7)."""

    OPEN = "open"
    CLOSING = "closing"
    """Our close frame is on its way; the device's is awaited."""
    DISCARDING = "discarding"
    """Our close frame is on its way; nothing that comes is looked at, until the device hangs up."""
    FINISHING = "finishing"
    """Both have closed; what is to be sent leaves still."""
    GONE = "gone"


# Looked up for every frame.
_OPEN, _CLOSING, _GONE = Phase.OPEN, Phase.CLOSING, Phase.GONE
_READING = frozenset({Phase.OPEN, Phase.CLOSING, Phase.DISCARDING})


class WebSocket(ABC):
    """One WebSocket (RFC 6455), from the answer to its handshake to the end of the connection.

    Args:
        node: The node.
        line: Where its frames are sent.
        pump: Who pushes it.

    Attributes:
        line: As given.
        pump: As given.
        phase: How far it is on its way to its end.
        buffer: What waits to be sent; None while nothing does.
        heard: Whether bytes came from the device, or left for it; whoever wants to know resets it.
        due: See `localful_ws.server.timers.Timed`.
    """

    __slots__ = (
        "_after_close",
        "_held",
        "_node",
        "_reader",
        "buffer",
        "due",
        "heard",
        "line",
        "phase",
        "pump",
    )

    def __init__(self, node: "Node", line: Line, pump: Pump) -> None:
        self.line = line
        self.pump = pump
        self.phase = Phase.OPEN
        self.buffer: SendBuffer | None = None
        self.heard = False
        self.due: float | None = None
        self._node = node
        # What a frame or message needs that has come in part.
        self._reader: FrameReader | None = None
        # While frames are taken: the answers, which leave together.
        self._held: list[Piece] | None = None
        # How many bytes came since our close frame.
        self._after_close = 0

    @property
    def turn(self) -> Turn:
        """What a task waits for before it pushes the device."""
        return self._node.turn

    @property
    @abstractmethod
    def verifying(self) -> bool:
        """Whether it has to wait for something before more is read."""

    @property
    def reading(self) -> bool:
        """Whether it wants to be told what comes."""
        return self.phase in _READING and not self.verifying

    def waiting(self) -> tuple[int, int]:
        """How many frames wait to be sent, and how many bytes they have."""
        return (0, 0) if self.buffer is None else (self.buffer.frames, self.buffer.size)

    # --- pushed ---

    def arrived(self, size: int) -> None:
        """Take note that so many bytes came from the device, which somebody else reads."""
        self.heard = True
        if self.phase is not _OPEN:
            self._after_close += size
            if self._after_close > _MOST_AFTER_CLOSE:
                self.abort()
            elif self._after_close > _READ_AFTER_CLOSE and self.phase is _CLOSING:
                self._read_no_more(Phase.DISCARDING)

    def received(self, data: bytes) -> None:
        """Take bytes that came from the device."""
        if not data:
            return
        self.arrived(len(data))
        if self.phase is _OPEN or self.phase is _CLOSING:
            if self._reader is None:
                self._reader = FrameReader(self._node.max_message_bytes)
            self._reader.receive(data)
            self._read()

    def writable(self) -> None:
        """Send of what waits as much as there is room for."""
        buffer = self.buffer
        if buffer is None:
            return
        try:
            sent = self.line.sendmsg(buffer.head())
        except BlockingIOError:
            return
        except OSError:
            # Whoever reads is told that the connection is broken.
            self._node.budget.close(self, buffer)
        else:
            # What leaves shows that the device takes it.
            self.heard = True
            self._node.budget.sent(self, buffer, sent, self._node.clock.now())
        if not buffer.pieces:
            self._node.budget.close(self, buffer)
            self.buffer = None
            self.pump.interest_changed(self)
            self._all_sent()

    @abstractmethod
    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now``; see `localful_ws.server.timers.Timed`."""

    def lost(self) -> None:
        """Take note that nothing more comes, or can be sent."""
        self._leave("connection-lost", at_once=False)

    def abort(self) -> None:
        """Drop the connection at once. If the device stalled, what the kernel has for it goes too."""
        self._leave("connection-lost", at_once=self.buffer is not None)

    # --- sent ---

    def send(self, piece: Piece) -> None:
        """Send a piece now, or as soon as there is room; if too much waits already, close instead.

        After a close frame, and when the device is gone, it is dropped.
        """
        if self.phase is not _OPEN:
            return
        if self._held is not None:
            self._held.append(piece)
        elif self.buffer is None:
            self._send_now((piece,))
        elif self._node.budget.is_over(self.buffer):
            self.close_slow_consumer()
        else:
            self._node.budget.add(self.buffer, piece)

    def send_batch(self, pieces: Sequence[Piece]) -> None:
        """Send several pieces. They wait together however many they are: a batch closes nobody who reads."""
        if self.phase is _OPEN and self.buffer is not None and self._node.budget.is_over(self.buffer):
            self.close_slow_consumer()
        if self.phase is _OPEN:
            self._write(pieces)

    def close_slow_consumer(self) -> None:
        """Close because more would have to wait than may, or for too long. What waits is forgotten.

        Of one that is about to close that is the close frame as well, so it is dropped.
        """
        if self.phase is not _OPEN:
            self.abort()
            return
        if self.buffer is not None:
            self._node.budget.give_up(self, self.buffer)
        self._node.metrics.slow_consumers += 1
        self.close(CloseCode.SLOW_CONSUMER)

    # --- what came ---

    @abstractmethod
    async def verify(self) -> None:
        """Wait for what it has to wait for, and go on. Nothing is raised here."""

    def _read(self) -> None:
        """Take frames until there are no more, or one has to be waited for."""
        reader = self._reader
        if reader is None:
            return
        now = self._node.clock.now()
        self._held = []
        try:
            while not self.verifying and (self.phase is _OPEN or self.phase is _CLOSING):
                frame = reader.next()
                if frame is None:
                    if reader.idle:
                        self._reader = None
                    break
                self._take(frame, now)
            self._send_held()
        except Exception:
            self.fail()

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held:
            self.send_batch(held if len(held) == 1 else pieces_of([piece.data for piece in held]))

    def take(self, frame: Received) -> None:
        """Take a frame, from a pump that reads frames itself."""
        if self.phase is _OPEN or self.phase is _CLOSING:
            try:
                self._take(frame, self._node.clock.now())
            except Exception:
                self.fail()

    @abstractmethod
    def _take(self, frame: Received, now: float) -> None:
        """Do what a frame asks for."""

    # --- its end ---

    @abstractmethod
    def close(self, code: CloseCode) -> None:
        """Begin to close; one that is closed stays so. Nothing is raised here."""

    @abstractmethod
    def fail(self) -> None:
        """Close, and log the exception being handled."""

    @abstractmethod
    def _note_end(self, reason: str) -> None:
        """Take note that it ends: our close frame is about to be sent, or can't be."""

    @abstractmethod
    def _note_gone(self) -> None:
        """Take note that nothing is left of it."""

    def _end(self, phase: Phase, code: CloseCode, reason: str) -> None:
        """Go on to a phase of the end. At its beginning our close frame is sent, the last of all frames."""
        self._send_held()
        if self.phase is _GONE:
            return
        begins = self.phase is _OPEN
        self.phase = phase
        self._node.timers.set(self, self._node.clock.now() + self._node.close_timeout)
        if begins:
            self._note_end(reason)
            self._write((piece_of(close_frame(code, code.reason)),))
        if phase is not _CLOSING:
            self._read_no_more(phase)
        if self.phase is phase:
            # A token that is being verified is not waited for any more.
            self.pump.interest_changed(self)

    def _read_no_more(self, phase: Phase) -> None:
        self.phase = phase
        self._reader = None
        if self.buffer is None:
            self._all_sent()

    def _all_sent(self) -> None:
        if self.phase is Phase.FINISHING:
            self._leave("device-closed", at_once=False)
        elif self.phase is Phase.DISCARDING:
            # Were the socket closed with bytes unread, the kernel would reset the connection, and the device
            # might never see the close frame.
            self.pump.stop_sending(self)

    def _leave(self, reason: str, *, at_once: bool) -> None:
        if self.phase is _GONE:
            return
        if self.phase is _OPEN:
            self._note_end(reason)
        self.phase = _GONE
        self.due = None
        self._reader = None
        if self.buffer is not None:
            self._node.budget.close(self, self.buffer)
            self.buffer = None
        self._note_gone()
        self.pump.close(self, at_once=at_once)

    def _write(self, pieces: Sequence[Piece]) -> None:
        """Send pieces, however much is waiting."""
        phase = self.phase
        for start in range(0, len(pieces), GATHER):
            if self.phase is not phase:
                return  # closed, to make room for what was to wait
            if self.buffer is not None:
                self._let_wait(pieces[start:])
                return
            self._send_now(pieces[start : start + GATHER])

    def _send_now(self, pieces: Sequence[Piece]) -> None:
        try:
            if len(pieces) == 1:
                data = pieces[0].data
                sent, size = self.line.send(data), len(data)
            else:
                buffers = [piece.data for piece in pieces]
                sent, size = self.line.sendmsg(buffers), sum(map(len, buffers))
        except BlockingIOError:
            self._let_wait(pieces)
        except OSError:
            return  # whoever reads is told that the connection is broken
        else:
            if sent != size:
                self._let_wait(pieces, sent)

    def _let_wait(self, pieces: Sequence[Piece], sent: int = 0) -> None:
        if self.buffer is None:
            self.buffer = self._node.budget.open(self, self._node.clock.now())
            self.pump.interest_changed(self)
        buffer, phase = self.buffer, self.phase
        for piece in pieces:
            if sent >= len(piece.data):
                sent -= len(piece.data)
            elif self.phase is phase:
                self._node.budget.add(buffer, piece, sent)
                sent = 0
