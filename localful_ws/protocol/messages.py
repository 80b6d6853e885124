"""The messages of the protocol as values (spec/protocol.md, "Messages")."""

from typing import ClassVar

from attrs import frozen


@frozen
class Authenticate:
    """Device: here is my access token; the first message, and again at any time to renew.

    Attributes:
        token: The access token, a JWT.
        vaults: Where given, replaces the subscription, as ``subscribe`` does.
        since: The cursor to resume from; without meaning in a renewal.
        id: Comes back with the answer.
    """

    event: ClassVar[str] = "authenticate"

    token: str
    vaults: tuple[str, ...] | None = None
    since: str | None = None
    id: str | None = None


@frozen
class Subscribe:
    """Device: these are the vaults whose data events I want; replaces what was asked for before."""

    event: ClassVar[str] = "subscribe"

    vaults: tuple[str, ...]
    id: str | None = None


DeviceMessage = Authenticate | Subscribe


@frozen
class Authenticated:
    """Server: the session that is now in force.

    Attributes:
        user: The user the token is for.
        group: The token group.
        expires_at: When the token expires, Unix seconds (``expiresAt`` on the wire).
        vaults: The subscription now in force.
        cursor: The present end of the user's stream.
        resumed: If the device wanted to resume: whether it does, and what it missed follows.
        id: The ``id`` of the message this answers.
    """

    event: ClassVar[str] = "authenticated"

    user: str
    group: str
    expires_at: float
    vaults: tuple[str, ...]
    cursor: str | None = None
    resumed: bool | None = None
    id: str | None = None


@frozen
class Subscribed:
    """Server: the subscription now in force, in the order given, without duplicates."""

    event: ClassVar[str] = "subscribed"

    vaults: tuple[str, ...]
    id: str | None = None


@frozen
class Reauthenticate:
    """Server: the token expires soon, at ``expires_at`` (Unix seconds); send a new one."""

    event: ClassVar[str] = "reauthenticate"

    expires_at: float


@frozen
class Error:
    """Server: something was refused.

    Attributes:
        code: One word, the close reason's where a close follows.
        message: A sentence a person can act on.
        id: The ``id`` of the refused message, if it had one.
    """

    event: ClassVar[str] = "error"

    code: str
    message: str
    id: str | None = None


ServerMessage = Authenticated | Subscribed | Reauthenticate | Error
