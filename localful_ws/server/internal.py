"""The internal HTTP port: publish, disconnect, health and metrics (spec/protocol.md, "Publishing").

A Starlette application on Hypercorn's Trio worker. Publishing is its hot path: a raw ASGI endpoint, and one
thin layer around all endpoints. Whatever a client does ends its own connection at most.
"""

import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.metrics import CONTENT_TYPE, expose
from localful_ws.protocol import Event
from localful_ws.publishing import (
    Disconnect,
    PublishError,
    PublishLimits,
    body_too_big,
    decode_disconnect_body,
    decode_publish_body,
)
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.server.answers import error_answer, json_answer, refuse_without_key, unavailable_answer
from localful_ws.server.console.pages import console_pages
from localful_ws.server.console.routes import Console, console_routes
from localful_ws.server.http_stream import HttpStream
from localful_ws.server.survey.questions import MetricsAnswer, MetricsQuestion, Survey
from localful_ws.web.files import SHARED, page_routes

_log = structlog.get_logger(__name__)

# Revocations lapse slowly; nothing is gained by asking soon.
_RETRY_REVOCATION_AFTER: Final = 60
# For how long to throw away what a client still sends after its answer. To close at once would reset the
# connection, and many a client would not get to see the answer.
_LINGER_SECONDS: Final = 1.0
# Hypercorn has one timeout for a request's head and for a connection without a request.
_IDLE_SECONDS: Final = 60.0


class NodeControl(Protocol):
    """What the internal port needs of a node.

    Attributes:
        draining: Whether the node is about to stop and takes nothing more.
    """

    draining: bool

    def unavailable(self) -> str | None:
        """A sentence that says why the node isn't ready; None if it is."""
        ...

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """Accept all of ``events`` or none, and say how many are new.

        Raises:
            EngineUnavailableError: If they can't be accepted now.
        """
        ...

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Close a user's or group's connections, refuse their tokens, and say how many were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            TooManyRevocationsError: If no more revocations can be remembered; nothing was done.
        """
        ...


def build_app(
    control: NodeControl,
    *,
    publisher_key: str,
    limits: PublishLimits,
    survey: Survey,
    now: Callable[[], float],
    revocation_seconds: float,
    console: Console | None = None,
) -> Starlette:
    """Build the application of the internal port.

    Args:
        control: The node.
        publisher_key: What a publisher must present. It appears in no log and no answer.
        limits: What a publisher may send.
        survey: Has asked of all workers what ``/metrics`` shows.
        now: The present, in Unix seconds.
        revocation_seconds: How long a disconnect lasts that does not say until when.
        console: What the operator's console shows; without it there is none.
    """

    async def publish(body: bytes) -> Response:
        receipt = await control.publish(decode_publish_body(body, limits))
        duplicates = {"duplicates": receipt.duplicates} if receipt.duplicates else {}
        return json_answer(202, {"accepted": receipt.accepted, **duplicates})

    async def disconnect(body: bytes) -> Response:
        closed = await control.disconnect(decode_disconnect_body(body, now(), revocation_seconds))
        return json_answer(202, {"closed": closed})

    async def healthz(_: Request) -> Response:
        return json_answer(200, {"status": "alive"})

    async def readyz(_: Request) -> Response:
        reason = control.unavailable()
        return (
            json_answer(200, {"status": "ready"})
            if reason is None
            else unavailable_answer("not-ready", reason)
        )

    async def metrics(_: Request) -> Response:
        answer = await survey(MetricsQuestion())
        if not isinstance(answer, MetricsAnswer):
            return unavailable_answer(
                "metrics-unavailable", "The metrics of all workers can't be had just now."
            )
        return Response(expose(answer.families), headers={"Content-Type": CONTENT_TYPE})

    key = publisher_key.encode()
    app = Starlette(
        routes=[
            Route("/v1/events", _PublisherEndpoint(control, key, limits, publish), methods=["POST"]),
            Route("/v1/disconnect", _PublisherEndpoint(control, key, limits, disconnect), methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            *page_routes(SHARED),
            *(() if console is None else (*console_routes(console, key), *console_pages())),
        ],
        middleware=[Middleware(_Boundary)],
        exception_handlers={HTTPException: _answer_http_exception},
    )
    app.router.redirect_slashes = False
    return app


async def serve_internal(
    app: Starlette,
    listening: socket.socket,
    *,
    shutdown: trio.Event,
    graceful_timeout: float,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the internal port until ``shutdown``, then let the requests under way end.

    Args:
        app: What `build_app` built.
        listening: A bound TCP socket that listens; it is closed at ``shutdown``.
        shutdown: Ends it.
        graceful_timeout: Seconds that the requests under way have after that.
        task_status: Started when connections are accepted.
    """
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    config = _hypercorn_config()
    wrapped = ASGIWrapper(cast("ASGIFramework", app))
    contexts: set[WorkerContext] = set()

    # Hypercorn's own serve() has no boundary around a connection: a header that is not ASCII, or an HTTP/2
    # frame for a stream that is over, raises in it and ends the whole server. So each one is started here.
    async def serve_connection(stream: trio.SocketStream) -> None:
        context = WorkerContext(None)
        contexts.add(context)
        try:
            with trio.CancelScope() as scope:
                # TCPServer takes any stream; only its annotation says TLS.
                http_stream = cast("trio.SSLStream[trio.SocketStream]", HttpStream(stream, context, scope))
                await TCPServer(wrapped, config, context, ConnectionState({}), http_stream)
        except Exception as error:
            _log.warning("an internal connection failed", errors=_kinds(error))
        finally:
            contexts.discard(context)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, serve_connection, [listener], handler_nursery=connections)
            )
            task_status.started()
            await shutdown.wait()
            accepting.cancel_scope.cancel()
        # Closes connections without a request, and the others after their answer.
        for context in tuple(contexts):
            await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + graceful_timeout


def _hypercorn_config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = _IDLE_SECONDS
    config.keep_alive_max_requests = sys.maxsize
    # HTTP/1.1 is what publishers speak: no HTTP/2 stream is allowed to begin.
    config.h2_max_concurrent_streams = 0
    return config


def _kinds(error: BaseException) -> list[str]:
    """The names of what was raised. Not the messages: they quote what was sent, a key perhaps."""
    if isinstance(error, BaseExceptionGroup):
        return [kind for inner in error.exceptions for kind in _kinds(inner)]
    return [type(error).__name__]


class _PublisherEndpoint:
    """Answers a POST that takes the publisher key.

    Args:
        control: The node.
        key: The publisher key.
        limits: How big a body may be, and how long it may take.
        act: Does what the body asks for.
    """

    def __init__(
        self,
        control: NodeControl,
        key: bytes,
        limits: PublishLimits,
        act: Callable[[bytes], Awaitable[Response]],
    ) -> None:
        self._control = control
        self._key = key
        self._limits = limits
        self._act = act

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        try:
            response = self._refuse(headers)
            if response is None:
                body = await self._receive_body(headers, receive)
                if body is None:
                    return
                response = await self._act(body)
        except PublishError as error:
            response = error_answer(error.status, error.identifier, error.message, error.context)
        except EngineUnavailableError as error:
            response = unavailable_answer("engine-unavailable", error.message, error.retry_after)
        except TooManyRevocationsError:
            response = unavailable_answer(
                "too-many-revocations",
                "As many revocations are in force as max-revocations allows; nothing was done.",
                _RETRY_REVOCATION_AFTER,
            )
        await response(scope, receive, send)

    def _refuse(self, headers: Mapping[bytes, bytes]) -> Response | None:
        """Find a reason not even to read the body."""
        refusal = refuse_without_key(headers, self._key)
        if refusal is None and self._control.draining:
            return unavailable_answer("draining", "The server is shutting down.")
        return refusal

    async def _receive_body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Receive the body, in bounded time and size; None if the publisher went away before its end."""
        limit = self._limits.max_body_bytes
        if int(headers.get(b"content-length", b"0")) > limit:
            raise body_too_big(self._limits)
        body = bytearray()
        with trio.move_on_after(self._limits.body_timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > limit:
                    raise body_too_big(self._limits)
                if not message.get("more_body", False):
                    return bytes(body)
        raise PublishError(
            408, "body-timeout", f"The body did not arrive within {self._limits.body_timeout:g} seconds."
        )


class _Boundary:
    """Around every request: an answer to what fails, and an end to what a client goes on sending."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await error_answer(404, "not-found", "Devices connect to the other port.")(scope, receive, send)
            return
        exchange = _Exchange(scope["method"], receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            _log.exception("a request failed", method=scope["method"], path=scope["path"])
            if not exchange.answered:
                response = error_answer(500, "internal-error", "The server failed; its log says more.")
                await response(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its answer, seen between server and application.

    An answer may be complete before the request is. Then it is sent at once, and what is left of the request
    is thrown away for a while. Hypercorn would wait for ever to hand on a body that nobody takes.

    Attributes:
        answered: Whether an answer has begun.
    """

    __slots__ = ("_method", "_receive", "_received", "_send", "answered")

    def __init__(self, method: str, receive: Receive, send: Send) -> None:
        self.answered = False
        self._method = method
        self._receive = receive
        self._received = False
        self._send = send

    async def receive(self) -> Message:
        """Receive from the client, and note the end of the request."""
        message = await self._receive()
        self._received = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send to the client, and end the request with its answer."""
        if message["type"] == "http.response.start":
            self.answered = True
            if not self._received and self._method == "POST":
                message["headers"].append((b"connection", b"close"))
        elif not self._received and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            with trio.move_on_after(_LINGER_SECONDS):
                await self._discard()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._discard)
                await self._send({"type": "http.response.body"})
                nursery.cancel_scope.cancel()
            return
        await self._send(message)

    async def _discard(self) -> None:
        while not self._received:
            await self.receive()


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    """Answer for a path that isn't there, or a method that it doesn't have."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        return error_answer(405, "method-not-allowed", "See the header Allow.", headers=error.headers)
    return error_answer(404, "not-found", "There is nothing here; events are published at /v1/events.")
