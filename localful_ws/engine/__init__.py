"""Where events travel between publisher and node."""

from collections.abc import Sequence
from typing import Protocol

from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect


class EngineUnavailableError(Exception):
    """The engine can't take anything just now; nothing was accepted.

    Attributes:
        message: A sentence for the publisher.
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Subscriber(Protocol):
    """What an engine hands its events to: the node."""

    async def route(self, events: Sequence[Event], accepted_at: float) -> None:
        """Deliver ``events``, accepted at that moment (`trio.current_time`), in order."""
        ...

    def apply_disconnect(self, disconnect: Disconnect) -> int:
        """Close whom the disconnect names and refuse them from now on; says how many were closed.

        Raises:
            localful_ws.revocations.TooManyRevocationsError: If no more can be remembered; nothing was done.
        """
        ...


class Engine(Protocol):
    """Takes events and disconnects from publishers and brings them to the nodes."""

    def unavailable(self) -> str | None:
        """A sentence that says why nothing can be accepted now; None if all is well."""
        ...

    async def publish(self, events: Sequence[Event]) -> int:
        """Accept a batch whole, or not at all.

        Returns:
            How many events were accepted.

        Raises:
            EngineUnavailableError: If it can't be accepted now.
        """
        ...

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Close a user's or group's connections and refuse their tokens.

        Returns:
            How many connections were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            localful_ws.revocations.TooManyRevocationsError: If no more can be remembered.
        """
        ...

    async def run(self, subscriber: Subscriber) -> None:
        """Hand over what arrives until the engine is closed."""
        ...

    async def aclose(self) -> None:
        """Accept nothing more. What was accepted is handed over before `run` returns."""
        ...
