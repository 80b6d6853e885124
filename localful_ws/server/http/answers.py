"""Answers of the internal HTTP port, in Localful's shapes (spec/protocol.md, "Publishing")."""

from collections.abc import Mapping
from typing import Final

import msgspec
from attrs import frozen
from starlette.types import Receive, Scope, Send

_JSON: Final = (b"content-type", b"application/json")
_RETRY_AFTER: Final = 5


@frozen
class Answer:
    """An answer whose body is there: an ASGI application that gives it.

    Attributes:
        status: The HTTP status.
        body: The body.
        headers: All headers but the length; names in lower case.
    """

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = (_JSON,)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as in ASGI
        """Give it."""
        headers = [*self.headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    more = ((name.lower().encode(), value.encode()) for name, value in (headers or {}).items())
    return Answer(status, msgspec.json.encode(content), (_JSON, *more))


def error_answer(
    status: int,
    identifier: str,
    message: str,
    context: Mapping[str, int | str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Answer with an error in Localful's shape."""
    body = {"statusCode": status, "identifier": identifier, "message": message, "context": context or {}}
    return json_answer(status, body, headers)


def unavailable_answer(identifier: str, message: str, retry_after: int = _RETRY_AFTER) -> Answer:
    """Answer that something can't be done now."""
    return error_answer(503, identifier, message, headers={"Retry-After": str(retry_after)})
