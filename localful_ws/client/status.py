"""What a client tells of its connection, and how long it waits."""

from attrs import frozen

from localful_ws.protocol import Session


@frozen
class Timeouts:
    """How long a client waits, in seconds.

    Attributes:
        token: For ``get_token``.
        connect: For the connection, TLS and the WebSocket handshake together.
        answer: For the server's answer to a message.
        ping_interval: Between two pings of ours.
        ping: For the answer to one; after it the connection counts as lost.
        close: For the server's answer to our close.
    """

    token: float = 30.0
    connect: float = 10.0
    answer: float = 10.0
    ping_interval: float = 30.0
    ping: float = 20.0
    close: float = 5.0


@frozen
class Connected:
    """Authenticated, or renewed: this session and this subscription are in force.

    Attributes:
        session: The session.
        vaults: The subscription.
        resumed: Whether the connection goes on where the last one ended, as the server says; None if there
            was nothing to go on from, or the server keeps no history, or this is a renewal.
    """

    session: Session
    vaults: tuple[str, ...]
    resumed: bool | None = None


@frozen
class Disconnected:
    """The connection ended, or could not be made; the client tries again.

    Attributes:
        code: The close code; 1006 if the connection ended without one, None if there was none.
        reason: The close reason, where there is one.
        message: A sentence about it.
        delay: Seconds until the next attempt.
    """

    code: int | None
    reason: str
    message: str
    delay: float


@frozen
class Refused:
    """The server sent an ``error``: it refused a request, or is about to close."""

    code: str
    message: str


@frozen
class RenewalFailed:
    """``get_token`` raised when a renewal was due. It is called again once the token has expired."""

    error: Exception


Status = Connected | Disconnected | Refused | RenewalFailed
