"""One device's connection, without any I/O: what it may say, what it is told, when it ends.

Push in what happened; each input returns, in order, what is to be done about it. Nothing here waits, reads
a clock or knows a socket. Times are seconds on one clock of the caller's that never runs backwards; token
expiries are Unix seconds, so the caller's clock must read Unix seconds too.
"""

from enum import Enum
from typing import Final

from attrs import Factory, frozen

from localful_ws.protocol.close_codes import CloseCode
from localful_ws.protocol.codec import decode_device_message
from localful_ws.protocol.errors import LocalProtocolError, MessageError
from localful_ws.protocol.events import Event, EventName
from localful_ws.protocol.messages import (
    Authenticate,
    Authenticated,
    Error,
    Reauthenticate,
    ServerMessage,
    Subscribe,
    Subscribed,
)
from localful_ws.protocol.rate import Rate
from localful_ws.protocol.session import Session
from localful_ws.protocol.state import Happening, State, next_state


@frozen
class Limits:
    """What a connection may do, from the settings.

    Attributes:
        auth_timeout: Seconds a device has for its first ``authenticate``.
        renewal_window: Seconds before a token's expiry at which the device is asked for a new one.
        max_vaults: Vaults a subscription may hold.
        message_rate: Messages a device may send.
        frame_rate: WebSocket frames a device may send, of whatever kind and size.
    """

    auth_timeout: float = 3.0
    renewal_window: float = 60.0
    max_vaults: int = 1000
    message_rate: Rate = Factory(lambda: Rate(30, 10.0))
    frame_rate: Rate = Factory(lambda: Rate(300, 10.0))


@frozen
class VerifyToken:
    """Do: verify this access token, then call `accept_session` or `reject_session`.

    Until then no further message may be pushed in.

    Attributes:
        token: The token.
        since: The cursor that the device wants to resume from.
    """

    token: str
    since: str | None = None


@frozen
class Send:
    """Do: send this message to the device."""

    message: ServerMessage


@frozen
class Close:
    """Do: close the WebSocket with this code and its reason word. Nothing is sent after it."""

    code: CloseCode


Action = VerifyToken | Send | Close
"""What a connection asks its driver to do."""


class Verdict(Enum):
    """Whether a device gets an event, and if not, why."""

    DELIVER = "deliver"
    ECHO = "echo"
    """Its own token group made the change."""
    NOT_SUBSCRIBED = "not-subscribed"
    OTHER_USER = "other-user"
    NOT_AUTHENTICATED = "not-authenticated"
    """Not yet, or no longer."""


@frozen
class Rejection:
    """Why a token did not become a session.

    Attributes:
        code: ``UNAUTHORIZED`` (the token does not hold), ``FORBIDDEN`` (revoked), ``TOO_MANY`` (connections
            of this user) or ``TRY_AGAIN_LATER`` (it cannot be judged now).
        message: A sentence for the device's developer. Never the token.
    """

    code: CloseCode
    message: str


_NOTHING: Final[tuple[Action, ...]] = ()
# Looked up for each device and event; from here it costs a third of what the enum takes.
_AUTHENTICATED: Final = State.AUTHENTICATED
_DELIVER: Final = Verdict.DELIVER
# Up to this many vaults a tuple is smaller than a dict and searched as fast.
_SMALL_SUBSCRIPTION: Final = 8


class Connection:
    """The protocol's side of one connection; see the module for how to drive it.

    Args:
        limits: What the device may do.
        now: The moment the WebSocket opened.
    """

    __slots__ = (
        "_deadline",
        "_frames_full_at",
        "_group",
        "_limits",
        "_messages_full_at",
        "_pending",
        "_session",
        "_user",
        "_vaults",
        "state",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.state = State.AWAITING_AUTH
        self._limits = limits
        self._messages_full_at = self._frames_full_at = 0.0
        self._deadline: float | None = now + limits.auth_timeout
        self._pending: Authenticate | None = None
        self._session: Session | None = None
        # The session's, within reach of `wants`; None while not authenticated.
        self._user: str | None = None
        self._group: str | None = None
        # Either way an ordered collection that answers `in`.
        self._vaults: tuple[str, ...] | dict[str, None] = ()

    @property
    def session(self) -> Session | None:
        """The session in force, if the device is or was authenticated."""
        return self._session

    @property
    def subscription(self) -> tuple[str, ...]:
        """The vaults whose data events the device wants, in the order it gave them."""
        return tuple(self._vaults)

    @property
    def verifying(self) -> VerifyToken | None:
        """The token whose verification has been asked for and whose outcome is not told yet, if there is one.

        So long no further message may be pushed in.
        """
        if self._pending is None:
            return None
        # Only the first one resumes.
        return VerifyToken(self._pending.token, None if self._session else self._pending.since)

    def next_deadline(self) -> float | None:
        """When `time_passed` wants to be called next; None if nothing is due ever.

        While a token is being verified the authentication deadline is met, and there is none.
        """
        return self._deadline

    def receive_text(self, text: str, now: float) -> tuple[Action, ...]:
        """Take a text message from the device.

        A message handed in has come in time: only `time_passed` ends the wait for authentication.

        Raises:
            LocalProtocolError: If a token is still being verified.
        """
        if self.state is State.CLOSED:
            return _NOTHING
        if self._pending is not None:
            raise LocalProtocolError("A token is being verified; tell its outcome before the next message.")
        rate = self._limits.message_rate
        full_at = rate.take(self._messages_full_at, now)
        if full_at is None:
            return self._refuse(
                CloseCode.TOO_MANY, f"At most {rate.most} messages in {rate.seconds:g} s are allowed."
            )
        self._messages_full_at = full_at
        try:
            message = decode_device_message(text)
        except MessageError as error:
            return self._refuse(error.code, error.message, error.id)
        if isinstance(message, Authenticate):
            return self._receive_authenticate(message)
        return self._receive_subscribe(message)

    def receive_frame(self, now: float) -> tuple[Action, ...]:
        """Take note of a WebSocket frame, of whatever kind and size, before what is in it.

        Fragments without content and control frames cost the server as much as any other, so all are counted.
        """
        rate = self._limits.frame_rate
        full_at = rate.take(self._frames_full_at, now)
        if full_at is not None:
            self._frames_full_at = full_at
            return _NOTHING
        if self.state is State.CLOSED:
            return _NOTHING
        return self._refuse(
            CloseCode.TOO_MANY, f"At most {rate.most} frames in {rate.seconds:g} s are allowed."
        )

    def receive_binary(self) -> tuple[Action, ...]:
        """Take note that the device sent a binary message, which this protocol does not have."""
        if self.state is State.CLOSED:
            return _NOTHING
        return self._refuse(CloseCode.BAD_MESSAGE, "Messages are text, not binary.")

    def accept_session(
        self, session: Session, now: float, cursor: str, *, resumed: bool = False
    ) -> tuple[Action, ...]:
        """Say that the token holds: the one `VerifyToken` asked about, or one from the handshake.

        Args:
            session: What the token says.
            now: The present.
            cursor: The present end of the user's stream.
            resumed: Whether the device is now told what came after the cursor that `VerifyToken` named.
        """
        if self._expects_no_session():
            return _NOTHING
        message, self._pending = self._pending, None
        message_id = message.id if message is not None else None
        if self._session is not None and session.user != self._session.user:
            return self._forbid("A renewal needs a token of the same user.", message_id)
        resumes = self._session is None and message is not None and message.since is not None
        self.state = next_state(self.state, Happening.SESSION_ACCEPTED)
        self._session = session
        self._user, self._group = session.user, session.group
        if message is not None and message.vaults is not None:
            self._subscribe_to(message.vaults)
        self._deadline = self._renewal_time(session, now)
        return (
            Send(
                Authenticated(
                    user=session.user,
                    group=session.group,
                    expires_at=session.expires_at,
                    vaults=self.subscription,
                    cursor=cursor,
                    resumed=resumed if resumes else None,
                    id=message_id,
                )
            ),
        )

    def reject_session(self, rejection: Rejection) -> tuple[Action, ...]:
        """Say that the token does not hold, or that its session may not begin.

        Before authentication this closes the connection. A renewal that fails changes nothing, unless the
        session is revoked.
        """
        if self._expects_no_session():
            return _NOTHING
        message, self._pending = self._pending, None
        message_id = message.id if message is not None else None
        if self.state is State.AWAITING_AUTH:
            return self._end(
                Happening.SESSION_REFUSED,
                rejection.code,
                _error(rejection.code, rejection.message, message_id),
            )
        if rejection.code is CloseCode.FORBIDDEN:
            return self._forbid(rejection.message, message_id)
        return self._decline(rejection.code.reason, rejection.message, message_id)

    def time_passed(self, now: float) -> tuple[Action, ...]:
        """Do what is due at ``now``: end the wait for authentication, ask for a renewal, end the session."""
        if self._deadline is None or now < self._deadline:
            return _NOTHING
        if self._session is None:
            return self._end(Happening.AUTHENTICATION_TIMED_OUT, CloseCode.AUTHENTICATION_TIMEOUT)
        if now >= self._session.expires_at:
            return self._end(Happening.TOKEN_EXPIRED, CloseCode.TOKEN_EXPIRED)
        self._deadline = self._session.expires_at
        return (Send(Reauthenticate(expires_at=self._session.expires_at)),)

    def wants(self, event: Event) -> Verdict:
        """Decide whether this device gets ``event``. The only place where that is decided.

        The conditions (spec/protocol.md, "Who gets an event"): the event's user is the session's; the origin
        group is not the session's; and a data event is of a vault in the subscription.
        """
        if self.state is not _AUTHENTICATED:
            return Verdict.NOT_AUTHENTICATED
        if event.user != self._user:
            return Verdict.OTHER_USER
        if event.group == self._group:
            return Verdict.ECHO
        if event.content_of is not None and event.content_of not in self._vaults:
            return Verdict.NOT_SUBSCRIBED
        return _DELIVER

    def event_passed(self, event: Event) -> tuple[Action, ...]:
        """Take note that an event was delivered, or would have been but for its origin or the subscription.

        After ``vault-delete`` the vault leaves the subscription; after ``user-delete`` the connection closes.
        """
        if self.state is not State.AUTHENTICATED or self._session is None or event.user != self._session.user:
            return _NOTHING
        if event.name is EventName.USER_DELETE:
            return self._end(Happening.USER_DELETED, CloseCode.FORBIDDEN)
        if event.name is EventName.VAULT_DELETE and event.vault in self._vaults:
            self._subscribe_to(tuple(vault for vault in self._vaults if vault != event.vault))
        return _NOTHING

    def close(self, code: CloseCode) -> tuple[Action, ...]:
        """End the connection from the server's side, for a reason the protocol has no part in."""
        if self.state is State.CLOSED:
            return _NOTHING
        return self._end(Happening.CLOSED_BY_SERVER, code)

    def connection_lost(self) -> None:
        """Take note that the device closed, or that the connection broke. May be called again."""
        if self.state is not State.CLOSED:
            self._end(Happening.CONNECTION_LOST, CloseCode.NORMAL)

    def _expects_no_session(self) -> bool:
        # Before authentication a session may also come from the handshake, without a message.
        return self.state is State.CLOSED or (self.state is State.AUTHENTICATED and self._pending is None)

    def _receive_authenticate(self, message: Authenticate) -> tuple[Action, ...]:
        if message.vaults is not None and len(message.vaults) > self._limits.max_vaults:
            if self.state is State.AWAITING_AUTH:
                return self._refuse(CloseCode.BAD_MESSAGE, self._too_many_vaults(message.vaults), message.id)
            return self._decline("too-many-vaults", self._too_many_vaults(message.vaults), message.id)
        self._pending = message
        if self.state is State.AUTHENTICATED:
            return (VerifyToken(message.token),)
        self._deadline = None
        return (VerifyToken(message.token, message.since),)

    def _receive_subscribe(self, message: Subscribe) -> tuple[Action, ...]:
        if self.state is State.AWAITING_AUTH:
            return self._refuse(CloseCode.UNAUTHORIZED, "The first message must be authenticate.", message.id)
        if len(message.vaults) > self._limits.max_vaults:
            return self._decline("too-many-vaults", self._too_many_vaults(message.vaults), message.id)
        self.state = next_state(self.state, Happening.SUBSCRIBED)
        self._subscribe_to(message.vaults)
        return (Send(Subscribed(vaults=message.vaults, id=message.id)),)

    def _subscribe_to(self, vaults: tuple[str, ...]) -> None:
        self._vaults = vaults if len(vaults) <= _SMALL_SUBSCRIPTION else dict.fromkeys(vaults)

    def _renewal_time(self, session: Session, now: float) -> float:
        remaining = session.expires_at - now
        if remaining > self._limits.renewal_window:
            return session.expires_at - self._limits.renewal_window
        # A token that begins inside the window is asked for halfway through, or a client that renews whenever
        # it is asked to would do nothing else.
        return now + remaining / 2

    def _too_many_vaults(self, vaults: tuple[str, ...]) -> str:
        return f"A subscription holds at most {self._limits.max_vaults} vaults, not {len(vaults)}."

    def _refuse(self, code: CloseCode, message: str, message_id: str | None = None) -> tuple[Action, ...]:
        return self._end(Happening.MESSAGE_REFUSED, code, _error(code, message, message_id))

    def _forbid(self, message: str, message_id: str | None) -> tuple[Action, ...]:
        code = CloseCode.FORBIDDEN
        return self._end(Happening.FORBIDDEN, code, _error(code, message, message_id))

    def _decline(self, word: str, message: str, message_id: str | None) -> tuple[Action, ...]:
        self.state = next_state(self.state, Happening.REQUEST_REFUSED)
        return (Send(Error(code=word, message=message, id=message_id)),)

    def _end(self, happening: Happening, code: CloseCode, *last: Action) -> tuple[Action, ...]:
        self.state = next_state(self.state, happening)
        self._deadline = None
        self._pending = None
        self._vaults = ()
        return (*last, Close(code))


def _error(code: CloseCode, message: str, message_id: str | None) -> Send:
    return Send(Error(code=code.reason, message=message, id=message_id))
