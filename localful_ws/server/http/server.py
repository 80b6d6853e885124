"""Serves an ASGI application to the HTTP clients that connect to a socket."""

import socket
from collections.abc import Coroutine
from typing import Final

import structlog
import trio
from starlette.types import ASGIApp

from localful_ws.server.http.connection import HttpConnection, HttpTimes
from localful_ws.tcp import TcpStream, accept_connections
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_LOOK_EVERY: Final = 1.0
_LOOK_OFTEN: Final = 0.1
_TELL_AGAIN_AFTER: Final = 60.0


class HttpServer:
    """Serves connections, so many at a time.

    Others wait to be accepted, and those that are idle are closed for them.

    Args:
        app: The application.
        max_connections: How many connections there may be.
        times: How long what may take.
    """

    def __init__(self, app: ASGIApp, *, max_connections: int, times: HttpTimes | None = None) -> None:
        self._app = app
        self._max_connections = max_connections
        self._times = times or HttpTimes()
        self._connections: set[HttpConnection] = set()
        self._left = Signal()
        self._is_ending = False
        self._told_at = -_TELL_AGAIN_AFTER

    def serve_stream(self, stream: trio.abc.Stream) -> Coroutine[None, None, None]:
        """Serve one connection until it is over. Nothing it does is raised here.

        It counts from now on, not from when its task first runs: meanwhile others are accepted.
        """
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "root_path": "",
            "client": _peer(stream),
            "server": None,
        }
        connection = HttpConnection(self._app, stream, self._times, scope)
        self._connections.add(connection)
        return self._serve_connection(connection)

    async def _serve_connection(self, connection: HttpConnection) -> None:
        try:
            if self._is_ending:
                connection.end()
            await connection.run()
        finally:
            self._connections.remove(connection)
            self._left.set()

    async def serve(
        self,
        listening: socket.socket,
        *,
        shutdown: trio.Event,
        graceful_timeout: float,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until ``shutdown``, then let the requests under way end.

        Args:
            listening: A bound TCP socket that listens; it is closed at ``shutdown``.
            shutdown: Ends it.
            graceful_timeout: Seconds that the requests under way have after that.
            task_status: Started when connections are accepted.
        """
        listening.setblocking(False)
        async with trio.open_nursery() as timing:
            timing.start_soon(self.keep_time)
            async with trio.open_nursery() as connections:
                with listening:
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(
                            accept_connections, listening, self.serve_stream, connections, self._wait_for_room
                        )
                        task_status.started()
                        await shutdown.wait()
                        accepting.cancel_scope.cancel()
                connections.cancel_scope.deadline = trio.current_time() + graceful_timeout
                self.end()
            timing.cancel_scope.cancel()

    def end(self) -> None:
        """Close connections without a request, and the others after their answer."""
        self._is_ending = True
        for connection in tuple(self._connections):
            connection.end()

    async def keep_time(self) -> None:
        """End what takes too long, until cancelled.

        One task looks at all of them now and then: a deadline for each wait would cost as much as the rest.
        """
        while True:
            is_full = len(self._connections) >= self._max_connections
            await trio.sleep(_LOOK_OFTEN if is_full else _LOOK_EVERY)
            self._end_what_is_due(trio.current_time())

    def _end_what_is_due(self, now: float) -> None:
        asked = silent = 0.0
        if len(self._connections) >= self._max_connections:
            self._tell_full(now)
            # Others wait: whoever has not asked for anything lately has to come again. Whoever never has goes
            # sooner, or a crowd that only sits here keeps out for long those who publish.
            asked, silent = self._times.idle - _LOOK_EVERY, self._times.idle - _LOOK_OFTEN
        for connection in self._connections:
            spare = asked if connection.has_asked else silent
            if connection.due < now + (spare if connection.is_idle else 0.0):
                connection.cancel()

    async def _wait_for_room(self) -> int:
        while len(self._connections) >= self._max_connections:
            await self._left.wait()
        return self._max_connections - len(self._connections)

    def _tell_full(self, now: float) -> None:
        if now >= self._told_at + _TELL_AGAIN_AFTER:
            self._told_at = now
            _log.warning(
                "there are as many HTTP connections as may be; others wait", connections=self._max_connections
            )


def _peer(stream: trio.abc.Stream) -> tuple[str, int] | None:
    if isinstance(stream, TcpStream):
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            return None  # it is gone already
        return str(host), int(port)
    return None
