"""The device's side of the protocol without any I/O, from the first connection to the end of the last.

Push in what happened. What is to be sent piles up and is taken with `Conversation.take_outgoing`, what is to
be handed over with `Conversation.take_arrivals`; what a connection's end means comes back as `ComeBack` or
`GiveUp`. Nothing here waits, reads a clock or draws lots.
"""

from collections.abc import Iterable
from enum import Enum

from attrs import define, field, frozen

from localful_ws.client.codec import (
    ReceivedEvent,
    ReceivedMessage,
    decode_server_message,
    encode_authenticate,
    encode_subscribe,
)
from localful_ws.client.errors import (
    ClientError,
    ClosedByServerError,
    RefusedByServerError,
    ServerMessageError,
)
from localful_ws.client.reconnect import LOST, after_close, after_refusal, pause_before
from localful_ws.client.resuming import Arrival, Resumption
from localful_ws.protocol import (
    Authenticated,
    Error,
    EventName,
    LocalProtocolError,
    Reauthenticate,
    Reconnect,
    Session,
    Subscribed,
    decode_json,
)


class ClientState(Enum):
    """Where a client is in its life."""

    DISCONNECTED = "disconnected"
    AUTHENTICATING = "authenticating"
    READY = "ready"
    """Authenticated: events arrive."""
    ENDED = "ended"
    """There is no coming back."""


class _Happening(Enum):
    OPENED = "the WebSocket opened"
    AUTHENTICATED = "authenticated"
    SUBSCRIBED = "subscribed"
    REAUTHENTICATE = "reauthenticate"
    ERROR = "error"
    EVENT = "an event"
    LOST = "the connection ended"
    GIVEN_UP = "the connection ended for good"
    CLOSED = "we closed"


_TRANSITIONS: dict[ClientState, dict[_Happening, ClientState]] = {
    ClientState.DISCONNECTED: {
        _Happening.OPENED: ClientState.AUTHENTICATING,
        _Happening.LOST: ClientState.DISCONNECTED,
        _Happening.GIVEN_UP: ClientState.ENDED,
        _Happening.CLOSED: ClientState.ENDED,
    },
    ClientState.AUTHENTICATING: {
        _Happening.AUTHENTICATED: ClientState.READY,
        _Happening.ERROR: ClientState.AUTHENTICATING,
        _Happening.LOST: ClientState.DISCONNECTED,
        _Happening.GIVEN_UP: ClientState.ENDED,
        _Happening.CLOSED: ClientState.ENDED,
    },
    ClientState.READY: {
        _Happening.AUTHENTICATED: ClientState.READY,
        _Happening.SUBSCRIBED: ClientState.READY,
        _Happening.REAUTHENTICATE: ClientState.READY,
        _Happening.ERROR: ClientState.READY,
        _Happening.EVENT: ClientState.READY,
        _Happening.LOST: ClientState.DISCONNECTED,
        _Happening.GIVEN_UP: ClientState.ENDED,
        _Happening.CLOSED: ClientState.ENDED,
    },
    ClientState.ENDED: {},
}

_HAPPENING_OF: dict[type, _Happening] = {
    Authenticated: _Happening.AUTHENTICATED,
    Subscribed: _Happening.SUBSCRIBED,
    Reauthenticate: _Happening.REAUTHENTICATE,
    Error: _Happening.ERROR,
    ReceivedEvent: _Happening.EVENT,
}


def vaults_of(vaults: Iterable[str]) -> tuple[str, ...]:
    """The vaults of a subscription, each once.

    Raises:
        TypeError: If they are no list of strings.
    """
    wanted = tuple(vaults)
    # A string is a list of its letters, and nobody means that.
    if isinstance(vaults, str) or not all(isinstance(vault, str) for vault in wanted):
        raise TypeError("vaults must be a list of vault ids.")
    return tuple(dict.fromkeys(wanted))


@define(eq=False)
class SubscribeRequest:
    """A wish for a subscription.

    Attributes:
        id: The ``id`` of its message.
        vaults: The vaults wanted.
        outcome: The server's answer, once it is there.
    """

    id: str
    vaults: tuple[str, ...]
    outcome: Subscribed | Error | None = None


@frozen
class ComeBack:
    """Do: connect again.

    Attributes:
        delay: After so many seconds.
        code: The close code of the connection that ended; 1006 if it ended without one, None if there was no
            connection.
        reason: Its reason word, if any.
        message: A sentence about it.
    """

    delay: float
    code: int | None
    reason: str
    message: str


@frozen
class GiveUp:
    """Do: end, with this error; None if it was we who closed."""

    error: ClientError | None


Decision = ComeBack | GiveUp


@define(eq=False)
class Conversation:
    """The device's side of the protocol; see the module for how to drive it.

    Args:
        wanted: The subscription to begin with.
        since: The cursor that the first connection resumes from, if it does.

    Attributes:
        wanted: The subscription asked for with the next connection.
        state: Where the client is.
        session: The session in force while ready.
        vaults: The subscription in force, or that was when the connection ended.
    """

    wanted: tuple[str, ...] = field(converter=vaults_of)
    _resumption: Resumption = field(default=None, converter=Resumption, alias="since")
    state: ClientState = field(default=ClientState.DISCONNECTED, init=False)
    session: Session | None = field(default=None, init=False)
    vaults: tuple[str, ...] = field(default=(), init=False)
    _outgoing: list[str] = field(factory=list, init=False, repr=False)
    _arrivals: list[Arrival] = field(factory=list, init=False, repr=False)
    _requests: dict[str, SubscribeRequest] = field(factory=dict, init=False)
    # Those whose wish goes along with the authenticate under way.
    _riding: tuple[SubscribeRequest, ...] = field(default=(), init=False)
    _token: str | None = field(default=None, init=False, repr=False)
    # Renewals under way: the token of each by its message's id.
    _renewals: dict[str, str] = field(factory=dict, init=False, repr=False)
    _refused: tuple[str, ClosedByServerError] | None = field(default=None, init=False, repr=False)
    _last_error: Error | None = field(default=None, init=False)
    _attempt: int = field(default=0, init=False)
    _serial: int = field(default=0, init=False)

    @property
    def cursor(self) -> str | None:
        """The cursor that the next connection resumes from; None if it begins at the present."""
        return self._resumption.cursor

    def take_token(self, token: str) -> GiveUp | None:
        """Take the token for the next connection.

        Returns:
            GiveUp if the server has just refused this very token and asked for a new one.
        """
        if self._refused is not None and self._refused[0] == token:
            self._move(_Happening.GIVEN_UP)
            return GiveUp(self._refused[1])
        self._token = token
        return None

    def connection_opened(self) -> None:
        """Take note that the WebSocket is open.

        Raises:
            LocalProtocolError: If it is open already, or no token has been taken.
        """
        if self._token is None:
            raise LocalProtocolError("A connection needs a token first.")
        self._move(_Happening.OPENED)
        self._riding = tuple(self._requests.values())
        self._outgoing = [encode_authenticate(self._token, self.wanted, self._next_id(), self.cursor)]

    def take_outgoing(self) -> list[str]:
        """Take the messages that are to be sent now, in order."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def take_arrivals(self) -> list[Arrival]:
        """Take what is to be handed over, in order; at most one for each message."""
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    def subscribe(self, vaults: Iterable[str]) -> SubscribeRequest:
        """Ask for another subscription: now if connected, else with the next connection."""
        request = SubscribeRequest(self._next_id(), vaults_of(vaults))
        self.wanted = request.vaults
        self._requests[request.id] = request
        if self.state is ClientState.READY:
            self._outgoing.append(encode_subscribe(request.vaults, request.id))
        return request

    def forget(self, request: SubscribeRequest) -> None:
        """Stop waiting for the answer to a request; the wish itself stands. May be called again."""
        self._requests.pop(request.id, None)

    def renew(self, token: str) -> None:
        """Send a new token, unless it is the old one or there is no session to renew."""
        if self.state is ClientState.READY and token != self._token:
            message_id = self._next_id()
            self._renewals[message_id] = token
            self._outgoing.append(encode_authenticate(token, None, message_id))

    def receive_text(self, text: str) -> ReceivedMessage | None:
        """Take a message from the server, and return what it says; None for one of no meaning to us.

        Raises:
            ServerMessageError: If it is no message of this protocol, or can't come now.
        """
        message = decode_server_message(text)
        if message is None:
            return None
        happening = _HAPPENING_OF[type(message)]
        if happening not in _TRANSITIONS[self.state]:
            raise ServerMessageError(f"The server sent {happening.value} while {self.state.value}.")
        before = self.state
        self._move(happening)
        match message:
            case Authenticated():
                self._authenticated(message, before)
            case Subscribed():
                self.vaults = message.vaults
                self._settle(message)
            case Error():
                self._last_error = message
                self._renewals.pop(message.id or "", None)
                self._settle(message)
            case ReceivedEvent():
                self._arrive(self._resumption.receive(message))
                if message.event == EventName.VAULT_DELETE.value:
                    self._drop(message.vault)
        return message

    def connection_lost(self, code: int | None, reason: str, message: str, chance: float) -> Decision:
        """Take note that a connection ended, or never came about.

        Args:
            code: The close code; 1006 if there was none, None if there was no WebSocket.
            reason: The close reason.
            message: A sentence about it, where the server sends none.
            chance: From 0 to 1, drawn at random.
        """
        code_or_lost = LOST if code is None else code
        said = self._last_error
        if said is not None and said.code == reason:
            message = said.message
        reconnect = after_close(code_or_lost)
        error = ClosedByServerError(code_or_lost, reason, message)
        if reconnect is Reconnect.WITH_NEW_TOKEN and self._token is not None:
            self._refused = (self._token, error)
        return self._decide(reconnect, error, ComeBack(0, code, reason, message), chance)

    def handshake_refused(self, status: int, body: bytes, chance: float) -> Decision:
        """Take note that the WebSocket handshake was answered with an HTTP error.

        Args:
            status: The HTTP status.
            body: The body of the answer; Localful's errors have a ``message``.
            chance: From 0 to 1, drawn at random.
        """
        message = _sentence(body) or f"The server answered the WebSocket handshake with HTTP {status}."
        error = RefusedByServerError(status, message)
        return self._decide(after_refusal(status), error, ComeBack(0, None, "", message), chance)

    def server_misbehaved(self, error: ServerMessageError) -> GiveUp:
        """Take note that the connection was ended because of what the server sent."""
        self.close()
        return GiveUp(error)

    def close(self) -> None:
        """End it from our side. May be called again."""
        if self.state is not ClientState.ENDED:
            self._move(_Happening.CLOSED)

    def _authenticated(self, message: Authenticated, before: ClientState) -> None:
        self.session = Session(message.user, message.group, message.expires_at)
        self.vaults = message.vaults
        self._token = self._renewals.pop(message.id or "", self._token)
        if before is ClientState.READY:
            self._arrive(self._resumption.renew(message))
            return
        self._arrive(self._resumption.begin(message))
        self._attempt = 0
        self._refused = None
        for request in self._riding:
            request.outcome = Subscribed(message.vaults, request.id)
            self.forget(request)
        self._riding = ()
        # Wishes that came up while the token was being verified.
        for request in self._requests.values():
            self._outgoing.append(encode_subscribe(request.vaults, request.id))

    def _arrive(self, arrival: Arrival | None) -> None:
        if arrival is not None:
            self._arrivals.append(arrival)

    def _drop(self, deleted: str | None) -> None:
        self.vaults = tuple(vault for vault in self.vaults if vault != deleted)
        self.wanted = tuple(vault for vault in self.wanted if vault != deleted)

    def _settle(self, answer: Subscribed | Error) -> None:
        request = self._requests.pop(answer.id or "", None)
        if request is None:
            return
        request.outcome = answer
        if isinstance(answer, Error) and self.wanted == request.vaults:
            self.wanted = self.vaults

    def _decide(
        self, reconnect: Reconnect, error: ClientError, come_back: ComeBack, chance: float
    ) -> Decision:
        if self.state is ClientState.ENDED:
            return GiveUp(None)
        delay = pause_before(reconnect, self._attempt, chance)
        self._move(_Happening.LOST if delay is not None else _Happening.GIVEN_UP)
        self._attempt += 1
        if delay is None:
            return GiveUp(error)
        return ComeBack(delay, come_back.code, come_back.reason, come_back.message)

    def _move(self, happening: _Happening) -> None:
        try:
            self.state = _TRANSITIONS[self.state][happening]
        except KeyError:
            raise LocalProtocolError(f"{happening.name} cannot happen while {self.state.value}.") from None
        if self.state in (ClientState.DISCONNECTED, ClientState.ENDED):
            self.session = None
            self._outgoing = []
            self._renewals = {}
        if happening is _Happening.OPENED:
            self._last_error = None

    def _next_id(self) -> str:
        self._serial += 1
        return str(self._serial)


def _sentence(body: bytes) -> str | None:
    try:
        parsed = decode_json(body.decode())
    except ValueError:
        return None
    message = parsed.get("message") if isinstance(parsed, dict) else None
    return message if isinstance(message, str) else None
