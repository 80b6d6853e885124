"""One device: its WebSocket, the protocol object, and the life they share.

It is pushed and has no task. Who pushes is somebody else: `localful_ws.server.parking` for sockets, a pump in
a task (`localful_ws.server.pump`) for other streams. When it has to wait, because a token is to be verified,
its ``verifying`` says so, and `Device.verify` is to be awaited before more is read.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog

from localful_ws.engine import EngineUnavailableError, Entry, Position
from localful_ws.protocol import (
    Action,
    BinaryReceived,
    Close,
    CloseCode,
    CloseReceived,
    Connection,
    Event,
    EventName,
    Malformed,
    PingReceived,
    Received,
    Rejection,
    Send,
    Session,
    State,
    TextReceived,
    Verdict,
    encode_server_message,
    ping_frame,
    pong_frame,
    text_frame,
)
from localful_ws.server.send_buffer import piece_of, pieces_of
from localful_ws.server.websocket import Line, Phase, Pump, WebSocket

if TYPE_CHECKING:
    from localful_ws.server.node import Node

_log = structlog.get_logger(__name__)
_PING = ping_frame()
# Pings are due at multiples of this, in seconds: those of many devices go out together, and their answers
# come together, which costs a fraction of waking up for each.
_PING_TOGETHER = 1 / 32


class NotJoinedError(Exception):
    """The device is not authenticated, and follows no stream."""


class Device(WebSocket):
    """Drives one connection: tells the protocol object what happens and does what it asks for.

    Args:
        node: The node.
        line: Where its frames are sent.
        pump: Who pushes it.

    Attributes:
        core: The protocol's side of the connection.
        connected_at: When the handshake was accepted, in Unix seconds.
    """

    __slots__ = ("_ping_due", "_pong_due", "connected_at", "core")

    def __init__(self, node: "Node", line: Line, pump: Pump) -> None:
        super().__init__(node, line, pump)
        now = node.clock.now()
        self.core = Connection(node.limits, now)
        self.connected_at = now
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

    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now``: renewal, expiry, ping, pong, the end of a close. See `Timers`."""
        if self.phase is not Phase.OPEN:
            self.abort()
            return None
        try:
            self._act(self.core.time_passed(now))
            self._keep_alive(now)
        except Exception:
            self.fail()
        return self._next_due() if self.phase is Phase.OPEN else None

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

    def fail(self) -> None:
        """Close, and log the exception being handled: this connection's own, which harms no other.

        If it was about to close, it is dropped.
        """
        _log.exception("a connection failed")
        if self.phase is not Phase.OPEN:
            self.abort()
            return
        try:
            self._end(Phase.CLOSING, CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.reason)
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
        try:
            if self.core.session is not None:
                await self._node.pause(self.core.session.user, partial(self._accept, outcome))
            else:
                await self._node.join(outcome.user, since, partial(self._begin, outcome, since))
        except EngineUnavailableError as error:
            self._reject(Rejection(CloseCode.TRY_AGAIN_LATER, error.message))
        except NotJoinedError:
            return

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
                self._end(Phase.CLOSING, action.code, action.code.reason)

    def _note_end(self, reason: str) -> None:
        self.core.connection_lost()
        self._node.metrics.closed(reason)
        self._node.leave(self)

    def _note_gone(self) -> None:
        self._node.forget(self)

    # --- the time ---

    def _keep_alive(self, now: float) -> None:
        if self.phase is not Phase.OPEN:
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
