"""Every code this protocol closes a connection with (spec/protocol.md, "Close codes")."""

from enum import Enum, IntEnum
from typing import Self


class Reconnect(Enum):
    """What a client should do after a close."""

    NO = "no"
    YES = "yes"
    LATER = "yes, later"
    AFTER_RANDOM_DELAY = "yes, after a random delay"
    WITH_NEW_TOKEN = "with a new token"


class CloseCode(IntEnum):
    """A WebSocket close code, the reason word sent with it, and whether a client should come back.

    Codes below 3000 are RFC 6455's (section 7.4.1); those from 4400 are this protocol's own and follow the
    HTTP status they resemble.
    """

    reason: str
    reconnect: Reconnect

    def __new__(cls, code: int, reason: str, reconnect: Reconnect) -> Self:
        """Make a member that is its number and knows its word."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.reason = reason
        member.reconnect = reconnect
        return member

    NORMAL = 1000, "normal", Reconnect.NO
    """The device closed and this is the answer; the server never begins a close with it."""

    SERVER_SHUTDOWN = 1001, "server-shutdown", Reconnect.AFTER_RANDOM_DELAY
    """The server is draining before it stops."""

    PROTOCOL_ERROR = 1002, "protocol-error", Reconnect.NO
    """A frame that RFC 6455 does not allow."""

    INVALID_TEXT = 1007, "invalid-text", Reconnect.NO
    """A text frame that is not UTF-8."""

    MESSAGE_TOO_BIG = 1009, "message-too-big", Reconnect.NO
    """A message over ``max-message-bytes``."""

    INTERNAL_ERROR = 1011, "internal-error", Reconnect.LATER
    """The server's own fault; its log says more."""

    TRY_AGAIN_LATER = 1013, "try-again-later", Reconnect.LATER
    """Tokens cannot be verified, or the user's events not be followed, just now."""

    BAD_MESSAGE = 4400, "bad-message", Reconnect.NO
    """Not text, not JSON, not an object, an unknown event or a wrong type."""

    UNAUTHORIZED = 4401, "unauthorized", Reconnect.WITH_NEW_TOKEN
    """A token that does not hold, or another message before ``authenticate``."""

    FORBIDDEN = 4403, "forbidden", Reconnect.NO
    """A revoked session, a deleted user, or another user's token in a renewal."""

    AUTHENTICATION_TIMEOUT = 4408, "authentication-timeout", Reconnect.YES
    """No ``authenticate`` within ``auth-timeout`` (3 s)."""

    TOKEN_EXPIRED = 4410, "token-expired", Reconnect.WITH_NEW_TOKEN
    """The token ran out and was not renewed."""

    SLOW_CONSUMER = 4412, "slow-consumer", Reconnect.YES
    """More was waiting for this device than its send buffer may hold."""

    MISSED_EVENTS = 4413, "missed-events", Reconnect.YES
    """The server itself missed events of this user and can't have them any more."""

    TOO_MANY = 4429, "too-many", Reconnect.LATER
    """Over the limit of messages, or of connections of one user."""
