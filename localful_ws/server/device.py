"""One device, pushed: what came from it, that there is room to send, that time has passed, that it is lost.

It does not wait for anything and has no task. Who pushes is somebody else: `localful_ws.server.parking` for
sockets, a pump in a task (`localful_ws.server.pump`) for other streams. When it has to wait itself, because a
token is to be verified, its ``verifying`` says so, and `Device.verify` is to be awaited before more is read.
"""

import math
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from localful_ws.engine import Entry, Position
from localful_ws.protocol import (
    Action,
    BinaryReceived,
    Close,
    CloseCode,
    CloseReceived,
    Connection,
    Event,
    EventName,
    FrameReader,
    Malformed,
    PingReceived,
    Received,
    Rejection,
    Send,
    Session,
    State,
    TextReceived,
    Verdict,
    close_frame,
    encode_server_message,
    ping_frame,
    pong_frame,
    text_frame,
)
from localful_ws.server.send_buffer import Piece, SendBuffer, piece_of, pieces_of

if TYPE_CHECKING:
    from localful_ws.server.node import Node

_log = structlog.get_logger(__name__)
_PING = ping_frame()
# Pings are due at multiples of this, in seconds: those of many devices go out together, and their answers
# come together, which costs a fraction of waking up for each.
_PING_TOGETHER = 1 / 32
# A device that sends this much although it was told to go is not waited for.
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

    def interest_changed(self, device: "Device") -> None:
        """Look at the device's `Device.reading` and `Device.waits` again."""
        ...

    def stop_sending(self, device: "Device") -> None:
        """Tell the peer that nothing more will come, if there is a way to say so."""
        ...

    def close(self, device: "Device", *, at_once: bool) -> None:
        """Close the connection and push the device no more.

        Args:
            device: The device.
            at_once: Whether what the kernel has still to send is thrown away.
        """
        ...


class NotJoinedError(Exception):
    """The device is not authenticated, and follows no stream."""


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


class Device:
    """Drives one connection: tells the protocol object what happens and does what it asks for.

    Args:
        node: The node.
        line: Where its frames are sent.
        pump: Who pushes it; may be changed.

    Attributes:
        core: The protocol's side of the connection.
        connected_at: When the handshake was accepted, in Unix seconds.
        line: As given.
        pump: As given.
        phase: How far it is on its way to its end.
        buffer: What waits to be sent; None while nothing does.
        heard: Whether bytes came from it, or left for it, since the last ping.
        due: See `localful_ws.server.timers.Timed`.
    """

    __slots__ = (
        "_after_close",
        "_node",
        "_ping_due",
        "_pong_due",
        "_reader",
        "buffer",
        "connected_at",
        "core",
        "due",
        "heard",
        "line",
        "phase",
        "pump",
    )

    def __init__(self, node: "Node", line: Line, pump: Pump) -> None:
        now = node.clock.now()
        self.core = Connection(node.limits, now)
        self.connected_at = now
        self.line = line
        self.pump = pump
        self.phase = Phase.OPEN
        self.buffer: SendBuffer | None = None
        self.due: float | None = None
        self._node = node
        # What a frame or message needs that has come in part.
        self._reader: FrameReader | None = None
        self.heard = False
        # How many bytes came since our close frame.
        self._after_close = 0
        self._ping_due = _together(now + node.ping_interval)
        self._pong_due: float | None = None

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self.core.state

    @property
    def session(self) -> Session | None:
        """The session in force, if the device authenticated."""
        return self.core.session

    @property
    def subscription(self) -> tuple[str, ...]:
        """The vaults whose data events it wants, in the order it gave them."""
        return self.core.subscription

    @property
    def verifying(self) -> bool:
        """Whether it has to wait for a token to be verified."""
        return self.core.verifying is not None

    @property
    def reading(self) -> bool:
        """Whether it wants to be told what comes."""
        return self.phase in _READING and self.core.verifying is None

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

    def received(self, data: bytes) -> None:
        """Take bytes that came from the device."""
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

    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now``: renewal, expiry, ping, pong, the end of a close. See `Timers`."""
        if self.phase is not _OPEN:
            self.abort()
            return None
        try:
            self._act(self.core.time_passed(now))
            self._keep_alive(now)
        except Exception:
            self.fail()
        return self._next_due() if self.phase is _OPEN else None

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
        if self.buffer is None:
            self._send_now(piece)
        elif self._node.budget.is_over(self.buffer):
            self.close_slow_consumer()
        else:
            self._node.budget.add(self.buffer, piece)

    def send_batch(self, pieces: Sequence[Piece]) -> None:
        """Send several pieces. They wait together however many they are: a batch closes nobody who reads."""
        if self.phase is _OPEN and self.buffer is not None and self._node.budget.is_over(self.buffer):
            self.close_slow_consumer()
        for piece in pieces:
            if self.phase is _OPEN:
                self._write(piece)

    def event_passed(self, event: Event) -> None:
        """Do what follows from the end of a vault or a user."""
        self._act(self.core.event_passed(event))

    def close(self, code: CloseCode) -> None:
        """Close the connection from the server's side; one that is closed stays so.

        Nothing is raised here: whoever closes it may be closing others as well.
        """
        try:
            self._act(self.core.close(code))
        except Exception:
            self.fail()

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

    def fail(self) -> None:
        """Close, and log the exception being handled: this connection's own, which harms no other.

        If it was about to close, it is dropped.
        """
        _log.exception("a connection failed")
        if self.phase is not _OPEN:
            self.abort()
            return
        try:
            self._end(_CLOSING, CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.reason)
        except Exception:
            self.fail()

    # --- what it waits for ---

    async def verify(self) -> None:
        """Have the token verified that the device sent, and go on with what came after it.

        Nothing is raised here.
        """
        try:
            while (wanted := self.core.verifying) is not None:
                await self._conclude(await self._node.verify(wanted.token), wanted.since)
                self._read()
        except Exception:
            self.fail()

    async def begin(self, session: Session) -> None:
        """Begin with the session of a token that came with the handshake. Nothing is raised here."""
        try:
            await self._conclude(session)
        except Exception:
            self.fail()

    async def _conclude(self, outcome: Session | Rejection, since: str | None = None) -> None:
        """Tell the protocol object what became of a token."""
        if isinstance(outcome, Rejection):
            self._reject(outcome)
            return
        rejection: Rejection | None = None
        if self.core.session is not None:
            user = self.core.session.user
            rejection = await self._node.pause(user, partial(self._accept, outcome))
        else:
            try:
                rejection = await self._node.join(outcome.user, since, partial(self._begin, outcome, since))
            except NotJoinedError:
                return
        if rejection is not None:
            self._reject(rejection)

    def _begin(self, session: Session, since: str | None, position: Position) -> None:
        """Authenticate, tell what was missed, and follow the user's events, all in one turn.

        Raises:
            NotJoinedError: If the device is not, or no longer, there for that.
        """
        missed = position.missed
        if missed is not None and any(entry.event.name is EventName.USER_DELETE for entry in missed):
            missed = None  # whose events these are now is somebody else
        if missed and self._node.budget.is_short:
            self._reject(Rejection(CloseCode.TRY_AGAIN_LATER, "Too much is waiting to be sent just now."))
            raise NotJoinedError
        if self._accept(session, position.cursor, resumed=missed is not None):
            self._replay(missed or ())
        if self.core.state is not State.AUTHENTICATED:
            raise NotJoinedError
        if since is not None:
            self._node.metrics.resumes[missed is not None] += 1
        self._node.enter(self, session)

    def _accept(self, session: Session, cursor: str, *, resumed: bool = False) -> bool:
        """Begin or renew a session, unless it is refused; says whether one is in force."""
        refusal = self._node.refusal(session, renewal=self.core.session is not None)
        if refusal is not None:
            self._reject(refusal)
            return False
        self._act(self.core.accept_session(session, self._node.clock.now(), cursor, resumed=resumed))
        if self.core.state is not State.AUTHENTICATED:
            return False
        self._node.metrics.authentications += 1
        self._node.timers.set(self, self._next_due())
        return True

    def _reject(self, rejection: Rejection) -> None:
        self._node.metrics.authentication_failed(rejection.code.reason)
        self._act(self.core.reject_session(rejection))

    def _replay(self, missed: Sequence[Entry]) -> None:
        """Tell what was missed, decided as if it happened now."""
        frames = []
        for entry in missed:
            verdict = self.core.wants(entry.event)
            if verdict is Verdict.DELIVER:
                frames.append(entry.frame)
            elif verdict is Verdict.ECHO:
                self._node.metrics.echoes_suppressed += 1
            self.event_passed(entry.event)
        self._node.metrics.events_delivered += len(frames)
        self.send_batch(pieces_of(frames))

    # --- what came ---

    def _read(self) -> None:
        """Take frames until there are no more, or one has to be waited for."""
        reader = self._reader
        if reader is None:
            return
        now = self._node.clock.now()
        try:
            while self.core.verifying is None and (self.phase is _OPEN or self.phase is _CLOSING):
                frame = reader.next()
                if frame is None:
                    if reader.idle:
                        self._reader = None
                    return
                self._take(frame, now)
        except Exception:
            self.fail()

    def take(self, frame: Received) -> None:
        """Take a frame, from a pump that reads frames itself."""
        if self.phase is _OPEN or self.phase is _CLOSING:
            try:
                self._take(frame, self._node.clock.now())
            except Exception:
                self.fail()

    def _take(self, frame: Received, now: float) -> None:
        actions = self.core.receive_frame(now)
        if actions:
            self._act(actions)
        elif isinstance(frame, TextReceived):
            self._act(self.core.receive_text(frame.text, now))
        elif isinstance(frame, PingReceived):
            self.send(piece_of(pong_frame(frame.payload)))
        elif isinstance(frame, BinaryReceived):
            self._act(self.core.receive_binary())
        elif isinstance(frame, CloseReceived):
            self._end(Phase.FINISHING, CloseCode.NORMAL, "device-closed")
        elif isinstance(frame, Malformed):
            # What follows it can't be read.
            self._end(Phase.DISCARDING, frame.code, frame.code.reason)

    # --- its end ---

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Send):
                frame = text_frame(encode_server_message(action.message).encode())
                self.send(piece_of(frame))
            elif isinstance(action, Close):
                self._end(_CLOSING, action.code, action.code.reason)

    def _end(self, phase: Phase, code: CloseCode, reason: str) -> None:
        """Go on to a phase of the end. At its beginning our close frame is sent, the last of all frames."""
        begins = self.phase is _OPEN
        self.phase = phase
        self._node.timers.set(self, self._node.clock.now() + self._node.close_timeout)
        if begins:
            self._note_end(reason)
            self._write(piece_of(close_frame(code, code.reason)))
        if phase is _CLOSING:
            # A token that is being verified is not waited for any more.
            self.pump.interest_changed(self)
            return
        self._reader = None
        if self.buffer is None:
            self._all_sent()
        if self.phase is phase:
            self.pump.interest_changed(self)

    def _note_end(self, reason: str) -> None:
        self.core.connection_lost()
        self._node.metrics.closed(reason)
        self._node.leave(self)

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
        self._node.forget(self)
        self.pump.close(self, at_once=at_once)

    def _write(self, piece: Piece) -> None:
        """Send a piece, however much is waiting."""
        if self.buffer is None:
            self._send_now(piece)
        else:
            self._node.budget.add(self.buffer, piece)

    def _send_now(self, piece: Piece) -> None:
        try:
            sent = self.line.send(piece.data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # whoever reads is told that the connection is broken
        if sent != len(piece.data):
            self.buffer = self._node.budget.open(self, self._node.clock.now())
            self.pump.interest_changed(self)
            self._node.budget.add(self.buffer, piece, sent)

    # --- the time ---

    def _keep_alive(self, now: float) -> None:
        if self.phase is not _OPEN:
            return
        if self._pong_due is not None:
            if now < self._pong_due:
                return
            if not self.heard:
                self._leave("ping-timeout", at_once=self.buffer is not None)
                return
            self._pong_due = None
        if now >= self._ping_due:
            self.heard = False
            self.send(piece_of(_PING))
            self._pong_due = now + self._node.ping_timeout
            self._ping_due = _together(now + self._node.ping_interval)

    def _next_due(self) -> float:
        """When to be called next, while the connection is not closed."""
        due = self.core.next_deadline()
        ping = self._ping_due if self._pong_due is None else self._pong_due
        return ping if due is None else min(due, ping)


def _together(moment: float) -> float:
    # Less a rounding error of the clock's.
    return math.ceil(moment / _PING_TOGETHER - 1e-3) * _PING_TOGETHER
