"""Bodies of publishers, as they come: bounded each, and all of them together."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from starlette.types import Receive

from localful_ws.publishing import PublishLimits, Text, body_too_big

_SMALL: Final = 65536
"""A body up to this size is always taken: there are only so many connections, and no more is read at once."""


class BodiesTooBigError(Exception):
    """The bodies under way are as big together as they may be."""


class BodyBudget:
    """How big all bodies under way may be together; those up to 64 KiB do not count.

    Args:
        limits: How big one may be.
        most: How big all may be, in bytes.
    """

    def __init__(self, limits: PublishLimits, most: int) -> None:
        self.limits = limits
        self.size = 0
        self._most = most

    def take(self, size: int) -> None:
        """Reserve so many bytes.

        Raises:
            BodiesTooBigError: If that is too much.
        """
        if self.size + size > self._most:
            raise BodiesTooBigError
        self.size += size


class Body:
    """The body of one request. As a context manager it keeps its part of the budget until its end.

    Args:
        budget: Of which it takes what it needs.
        headers: The request's.
    """

    def __init__(self, budget: BodyBudget, headers: Mapping[bytes, bytes]) -> None:
        self._budget = budget
        self._declared = int(headers.get(b"content-length", b"0"))
        self._taken = 0

    def __enter__(self) -> Self:
        """Begin: what is declared is reserved.

        Raises:
            BodiesTooBigError: If all together are too big now.
            PublishError: If it is too big by itself.
        """
        self._reserve(self._declared)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what was taken of the budget."""
        self._budget.size -= self._taken

    async def receive(self, receive: Receive) -> Text | None:
        """Receive all of it; None if the client is gone before its end.

        Raises:
            BodiesTooBigError: If all together are too big now.
            PublishError: If it is too big by itself.
        """
        body: Text = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            self._reserve(len(body) + len(message["body"]))
            if not body:
                body = message["body"]
            elif isinstance(body, bytes):
                # One that grows: to join pieces of 32 MiB in the end would take 20 ms in one go.
                body = bytearray(body) + message["body"]
            else:
                body += message["body"]
            if not message["more_body"]:
                return body

    def _reserve(self, size: int) -> None:
        if size > self._budget.limits.max_body_bytes:
            raise body_too_big(self._budget.limits)
        if size > max(self._taken, _SMALL):
            self._budget.take(size - self._taken)
            self._taken = size
