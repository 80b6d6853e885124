"""One device: the protocol object, its WebSocket, and the life they share."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Entry, Position
from localful_ws.metrics import Metrics
from localful_ws.protocol import (
    Action,
    Close,
    CloseCode,
    Connection,
    Event,
    EventName,
    Limits,
    Rejection,
    Send,
    Session,
    State,
    Verdict,
    VerifyToken,
    encode_server_message,
    ping_frame,
    text_frame,
)
from localful_ws.server.batching import pieces_of
from localful_ws.server.outbox import OutboxFullError
from localful_ws.server.timekeeper import Appointment, Timekeeper
from localful_ws.server.transport.base import Transport, TransportClosedError

_log = structlog.get_logger(__name__)
_PING = ping_frame()


class NotJoinedError(Exception):
    """The device is not authenticated, and follows no stream."""


class DeviceHost(Protocol):
    """What a device needs of its node."""

    clock: Clock
    timekeeper: Timekeeper
    metrics: Metrics
    limits: Limits
    ping_interval: float
    ping_timeout: float
    close_timeout: float

    async def verify(self, token: str) -> Session | Rejection:
        """Verify an access token, in bounded time."""
        ...

    def refusal(self, session: Session, *, renewal: bool) -> Rejection | None:
        """Why a session whose token holds may not begin; None if it may."""
        ...

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> Rejection | None:
        """Follow the user's stream for one more device; see `localful_ws.engine.Engine.join`.

        Returns:
            None once ``begin`` has returned; else why the stream can't be followed.

        Raises:
            NotJoinedError: If ``begin`` raised it.
        """
        ...

    async def pause(self, user: str, act: Callable[[str], object]) -> Rejection | None:
        """Do something in a pause between events, in bounded time; see `localful_ws.engine.Engine.pause`.

        Returns:
            None once ``act`` has returned; else why it can't be done.
        """
        ...

    def enter(self, device: "Device", session: Session) -> None:
        """Ask this device about the events of its user from now on."""
        ...

    def leave(self, device: "Device") -> None:
        """Ask this device no more."""
        ...


class Device:
    """Drives one connection: tells the protocol object what happens and does what it asks for.

    Args:
        host: The node.
        transport: The open WebSocket.

    Attributes:
        connected_at: When the WebSocket opened, in Unix seconds.
        wants: Whether this device gets an event; see `Connection.wants`.
        send_frames: Sends frames, joined and one by one; see `Transport.sender`.
    """

    __slots__ = (
        "_appointment",
        "_core",
        "_end",
        "_host",
        "_ping_due",
        "_pong_due",
        "_transport",
        "connected_at",
        "send_frames",
        "wants",
    )

    def __init__(self, host: DeviceHost, transport: Transport) -> None:
        now = host.clock.now()
        self.connected_at = now
        self._host = host
        self._transport = transport
        self._core = Connection(host.limits, now)
        self._appointment: Appointment | None = None
        self._ping_due = now + host.ping_interval
        self._pong_due: float | None = None
        self._end: str | None = None
        # Called for every device and event, and so without a method of ours in between.
        self.wants = self._core.wants
        self.send_frames = transport.sender()

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self._core.state

    @property
    def session(self) -> Session | None:
        """The session in force, if the device authenticated."""
        return self._core.session

    @property
    def subscription(self) -> tuple[str, ...]:
        """The vaults whose data events it wants, in the order it gave them."""
        return self._core.subscription

    def waiting(self) -> tuple[int, int]:
        """How many frames wait in its outbox, and how many bytes they have."""
        return self._transport.waiting()

    async def run(self, session: Session | None) -> None:
        """Live until the connection is over.

        Args:
            session: The session of a token that came with the handshake, if one did.
        """
        try:
            if session is not None:
                await self._conclude(session)
            else:
                await self._receive_first()
            while True:
                await self._take(await self._transport.receive())
        except TransportClosedError as closed:
            self._note_end(closed.reason)
        except Exception:
            self.fail()
            await self._wait_closed()
        finally:
            self._note_end("connection-lost")
            if self._appointment is not None:
                self._appointment.cancel()

    def event_passed(self, event: Event) -> None:
        """Do what follows from the end of a vault or a user."""
        self._act(self._core.event_passed(event))

    def close(self, code: CloseCode, *, drop_waiting: bool = False) -> None:
        """Close the connection from the server's side; one that is closed stays so."""
        for action in self._core.close(code):
            if isinstance(action, Close):
                self._close_transport(action.code, drop_waiting=drop_waiting)

    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now``: renewal, expiry, ping, pong, the end of a close. See `Timekeeper`."""
        try:
            if self._core.state is State.CLOSED:
                self._transport.abort()
                return None
            self._act(self._core.time_passed(now))
            self._keep_alive(now)
        except Exception:
            self.fail()
        return self._due()

    async def _receive_first(self) -> None:
        """Wait for the first message, no longer than the protocol allows."""
        deadline = self._core.next_deadline()
        if deadline is None:
            return
        message = None
        # Only the receive is inside: the answer to a message that came in time must not be cut off.
        with trio.move_on_at(self._host.clock.deadline(deadline)):
            message = await self._transport.receive()
        if message is None:
            self._act(self._core.time_passed(max(deadline, self._host.clock.now())))
        else:
            await self._take(message)

    async def _take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            actions = self._core.receive_text(message, self._host.clock.now())
        else:
            actions = self._core.receive_binary()
        for action in actions:
            if isinstance(action, VerifyToken):
                await self._conclude(await self._host.verify(action.token), action.since)
        self._act(actions)

    async def _conclude(self, outcome: Session | Rejection, since: str | None = None) -> None:
        """Tell the protocol object what became of a token."""
        if isinstance(outcome, Rejection):
            self._reject(outcome)
        elif self._core.session is not None:
            user = self._core.session.user
            rejection = await self._host.pause(user, partial(self._accept, outcome))
            if rejection is not None:
                self._reject(rejection)
        else:
            with suppress(NotJoinedError):
                rejection = await self._host.join(outcome.user, since, partial(self._begin, outcome, since))
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
        if self._accept(session, position.cursor, resumed=missed is not None):
            self._replay(missed or ())
        if self._core.state is not State.AUTHENTICATED:
            raise NotJoinedError
        if since is not None:
            self._host.metrics.resumes[missed is not None] += 1
        self._host.enter(self, session)

    def _accept(self, session: Session, cursor: str, *, resumed: bool = False) -> bool:
        """Begin or renew a session, unless it is refused; says whether one is in force."""
        refusal = self._host.refusal(session, renewal=self._core.session is not None)
        if refusal is not None:
            self._reject(refusal)
            return False
        self._act(self._core.accept_session(session, self._host.clock.now(), cursor, resumed=resumed))
        if self._core.state is not State.AUTHENTICATED:
            return False
        self._host.metrics.authentications += 1
        self._appoint(self._due())
        return True

    def _reject(self, rejection: Rejection) -> None:
        self._host.metrics.authentication_failed(rejection.code.reason)
        self._act(self._core.reject_session(rejection))

    def _replay(self, missed: Sequence[Entry]) -> None:
        """Tell what was missed, decided as if it happened now."""
        frames = []
        for entry in missed:
            verdict = self.wants(entry.event)
            if verdict is Verdict.DELIVER:
                frames.append(entry.frame)
            elif verdict is Verdict.ECHO:
                self._host.metrics.echoes_suppressed += 1
            self.event_passed(entry.event)
        self._host.metrics.events_delivered += len(frames)
        try:
            for data, some in pieces_of(frames):
                self.send_frames(data, some)
        except OutboxFullError:
            self.close_slow_consumer()

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._send(text_frame(encode_server_message(action.message).encode()))
            elif isinstance(action, Close):
                self._close_transport(action.code)

    def _send(self, frame: bytes) -> None:
        try:
            self.send_frames(frame, (frame,))
        except OutboxFullError:
            self.close_slow_consumer()

    def close_slow_consumer(self) -> None:
        """Close because more would have to wait than the outbox may hold."""
        self._host.metrics.slow_consumers += 1
        self.close(CloseCode.SLOW_CONSUMER, drop_waiting=True)

    def _keep_alive(self, now: float) -> None:
        if self._core.state is State.CLOSED:
            return
        if self._pong_due is not None:
            if now < self._pong_due:
                return
            # Whatever came since the ping shows that the device is there.
            if not self._transport.take_heard():
                self._note_end("ping-timeout")
                self._core.connection_lost()
                self._transport.abort()
                return
            self._pong_due = None
        if now >= self._ping_due:
            self._transport.take_heard()
            self._send(_PING)
            self._pong_due = now + self._host.ping_timeout
            self._ping_due = now + self._host.ping_interval

    def _due(self) -> float | None:
        """When the timekeeper is to call next."""
        if self._core.state is State.CLOSED:
            return None
        due = self._core.next_deadline()
        ping = self._ping_due if self._pong_due is None else self._pong_due
        return ping if due is None else min(due, ping)

    def _appoint(self, due: float | None) -> None:
        if self._appointment is not None:
            self._appointment.cancel()
        self._appointment = None if due is None else self._host.timekeeper.appoint(self, due)

    def _close_transport(self, code: CloseCode, *, drop_waiting: bool = False) -> None:
        self._note_end(code.reason)
        try:
            self._transport.close(code, drop_waiting=drop_waiting)
        except Exception:
            # Whoever closes may be closing others as well: the router, the timekeeper, the drain.
            _log.exception("a connection failed")
            self._transport.abort()
        self._appoint(self._host.clock.now() + self._host.close_timeout)

    def fail(self) -> None:
        """Close, and log the exception being handled: this connection's own, which harms no other."""
        _log.exception("a connection failed")
        self.close(CloseCode.INTERNAL_ERROR)

    async def _wait_closed(self) -> None:
        with suppress(TransportClosedError):
            while True:
                await self._transport.receive()

    def _note_end(self, reason: str) -> None:
        self._core.connection_lost()
        if self._end is None:
            self._end = reason
            self._host.metrics.closed(reason)
            self._host.leave(self)
