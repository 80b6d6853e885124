"""What a publisher raises and hands back."""

from typing import Final


class PublisherError(Exception):
    """Anything a publisher raises of its own. No message holds the key."""


class QueueFullError(PublisherError):
    """So much waits already that this was not taken: the server is away, or slower than the events come."""


class PublisherClosedError(PublisherError):
    """The publisher has been closed: it takes no more, or what was waited for has not left."""


class EventRefusedError(PublisherError):
    """The server has refused it, and would refuse it again; with ``too-many-revocations``, for some time.

    Attributes:
        status: The HTTP status.
        identifier: The server's word for it, such as ``event-too-big``; empty if somebody else answered.
        message: The server's sentence, likewise.
    """

    def __init__(self, status: int, identifier: str, message: str) -> None:
        super().__init__(http_sentence(status, identifier, message))
        self.status: Final = status
        self.identifier: Final = identifier
        self.message: Final = message


def http_sentence(status: int, identifier: str, message: str) -> str:
    """Say what an HTTP answer said."""
    return f"HTTP {status}" + f": {message}" * bool(message) + f" ({identifier})" * bool(identifier)
