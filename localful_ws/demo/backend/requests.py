"""What all routes share: bodies of bounded size, who asks, and answers."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import msgspec
import structlog
import trio
from attrs import frozen
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localful_ws.demo.backend.database import Database, Offload
from localful_ws.demo.backend.errors import ApiError, busy, unauthorized
from localful_ws.demo.backend.logins import require_login
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.demo.backend.tokens import ACCESS, Claims, verify_token
from localful_ws.demo.backend.wire import decode_body

T = TypeVar("T")

_log = structlog.get_logger(__name__)
_JSON: Final = "application/json"
_ID_LENGTH: Final = 128


@frozen
class Services:
    """What routes work with.

    Attributes:
        settings: The settings.
        database: The database.
        now: The present, in Unix seconds.
        offload: Runs what takes long.
        hashing: Bounds how many passwords are hashed at the same time.
    """

    settings: BackendSettings
    database: Database
    now: Callable[[], float]
    offload: Offload
    hashing: trio.CapacityLimiter

    async def hash_slowly(self, work: Callable[[], T]) -> T:
        """Hash or check a password, when it is this request's turn.

        Raises:
            ApiError: 503, if that takes too long.
        """
        with trio.move_on_after(self.settings.busy_seconds) as waiting:
            await self.hashing.acquire_on_behalf_of(work)
        if waiting.cancelled_caught:
            raise busy()
        try:
            return await self.offload(work)
        finally:
            self.hashing.release_on_behalf_of(work)


@frozen
class Call:
    """One request.

    Attributes:
        services: What to work with.
        request: The request; its body has arrived.
        body: The body.
        now: When it came, in Unix seconds.
    """

    services: Services
    request: Request
    body: bytes
    now: float

    def decode(self, kind: type[T]) -> T:
        """Read the body.

        Raises:
            ApiError: 400 or 422.
        """
        return decode_body(kind, self.body)

    def path_id(self) -> str:
        """The id in the path."""
        return str(self.request.path_params["id"])

    def query_id(self, name: str) -> str:
        """An id in the query, which must be there.

        Raises:
            ApiError: 422.
        """
        value = self.request.query_params.get(name, "")
        if not 1 <= len(value) <= _ID_LENGTH:
            raise ApiError(422, "invalid-query", f"The query must say {name}=<id>.", {"key": name})
        return value

    def page(self) -> tuple[str, int]:
        """Which part of a list is wanted: after which id, and how many.

        Raises:
            ApiError: 422.
        """
        most = self.services.settings.max_page
        limit = self.request.query_params.get("limit", str(most))
        if not (limit.isascii() and limit.isdecimal() and len(limit) < 10 and 1 <= int(limit) <= most):
            raise ApiError(
                422, "invalid-query", f"limit must be a number from 1 to {most}.", {"key": "limit"}
            )
        return self.request.query_params.get("after", ""), int(limit)

    def actor(self) -> Claims:
        """Who asks, by the access token. Whether the login still lasts is seen in the transaction.

        Raises:
            ApiError: 401.
        """
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized("Send the access token, as Authorization: Bearer <token>.")
        return verify_token(token.strip(), ACCESS, self.services.settings.jwt_secret, self.now)

    async def read(self, work: Callable[[sqlite3.Connection, Claims], T]) -> T:
        """Run ``work`` in a reading transaction, for whoever asks.

        Raises:
            ApiError: 401, 503, or what ``work`` raises.
        """
        return await self.services.database.read(_authorized(self.actor(), work))

    async def write(self, work: Callable[[sqlite3.Connection, Claims], T]) -> T:
        """Run ``work`` in a writing transaction, for whoever asks.

        Raises:
            ApiError: 401, 503, or what ``work`` raises; then nothing has happened.
        """
        return await self.services.database.write(_authorized(self.actor(), work))


Handler = Callable[[Call], Awaitable[Response]]


def endpoint(services: Services, handlers: Mapping[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    """Make the endpoint of one path.

    Args:
        services: What the handlers work with.
        handlers: What answers which method.
    """

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        call = Call(services, request, await request.body(), services.now())
        return await handlers[method](call)

    return answer


def json_response(content: object, status: int = 200) -> Response:
    """Answer with JSON. Nothing of it may be kept by a cache: it is one user's own."""
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, _JSON)


def no_content() -> Response:
    """Answer that it is done."""
    return Response(status_code=204)


class BodyLimits:
    """Middleware: receives the whole body before the application is asked.

    How long that may take is the server's affair.

    Args:
        app: The application.
        max_bytes: Size of a body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive the body, then ask the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._receive_body(receive)
        except ApiError as error:
            await answer_error(error)(scope, receive, send)
            return
        if body is None:
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)

    async def _receive_body(self, receive: Receive) -> bytes | None:
        """Receive it; None if the client went away before its end, or the server gave it up."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise ApiError(413, "body-too-big", f"A body may have at most {self._max_bytes} bytes.")
            if not message.get("more_body", False):
                return bytes(body)


def answer_error(error: ApiError) -> Response:
    """The answer that an error is."""
    body = {
        "statusCode": error.status,
        "identifier": error.identifier,
        "message": error.message,
        "context": error.context,
    }
    response = json_response(body, error.status)
    response.headers.update(error.headers)
    return response


async def handle_api_error(_: Request, error: Exception) -> Response:
    """Answer for a handler that raised `ApiError`."""
    return answer_error(error) if isinstance(error, ApiError) else await handle_failure(_, error)


async def handle_http_exception(_: Request, error: Exception) -> Response:
    """Answer for a path that isn't there, or a method that it doesn't have."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        return answer_error(
            ApiError(405, "method-not-allowed", "See the header Allow.", headers=error.headers)
        )
    return answer_error(ApiError(404, "not-found", "There is nothing at this path."))


async def handle_failure(request: Request, error: Exception) -> Response:
    """Answer for a fault of our own. Its text may quote what was sent: only its kind is logged."""
    _log.error("a request failed", method=request.method, path=request.url.path, error=type(error).__name__)
    return answer_error(ApiError(500, "internal-error", "The server failed; its log says more."))


def _authorized(
    actor: Claims, work: Callable[[sqlite3.Connection, Claims], T]
) -> Callable[[sqlite3.Connection], T]:
    def authorized(connection: sqlite3.Connection) -> T:
        require_login(connection, actor)
        return work(connection, actor)

    return authorized
