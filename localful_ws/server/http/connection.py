"""One connection of an HTTP client: each of its requests, in turn, is answered by the application (ASGI)."""

import math
import time
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import structlog
import trio
from attrs import frozen
from starlette.types import ASGIApp, Message, Scope

from localful_ws.server.http.answers import Answer, error_answer
from localful_ws.server.http.requests import MAX_HEAD, Request, RequestError, RequestReader
from localful_ws.tcp import TcpStream, shut_down_sending
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_AT_ONCE: Final = 65536
_CLOSE: Final = (b"connection", b"close")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_BODY: Final = frozenset({204, 304})
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}


@frozen
class HttpTimes:
    """How long what may take, in seconds.

    Attributes:
        idle: From one request to the next.
        head: A request head, from its first byte.
        body: A request body, from the head.
        send: Until a client takes so much of an answer as is sent at a time.
        linger: Until a client has nothing more to send after the answer that ends its connection, which is
            thrown away; but no longer than ``body`` in all.
    """

    idle: float = 75.0
    head: float = 10.0
    body: float = 30.0
    send: float = 10.0
    linger: float = 2.0


_FAILED: Final = error_answer(500, "internal-error", "The server failed; its log says more.")


class HttpConnection:
    """Serves one connection; `run` is its task.

    Args:
        app: The application.
        stream: The connection.
        times: How long what may take.
        scope: What is the same in the ASGI scopes of all its requests.

    Attributes:
        due: When it is over unless something happens, on Trio's clock; whoever keeps the time calls `cancel`.
        is_idle: Whether it waits for a request of which nothing has come.
        has_asked: Whether there has been a request.
        is_ending: Whether it takes no further request.
    """

    __slots__ = (
        "_app",
        "_fault",
        "_gone",
        "_is_gone",
        "_reader",
        "_scope",
        "_stream",
        "_task",
        "_times",
        "due",
        "has_asked",
        "is_ending",
        "is_idle",
    )

    def __init__(self, app: ASGIApp, stream: trio.abc.Stream, times: HttpTimes, scope: Scope) -> None:
        self.due = trio.current_time() + times.idle
        self.is_idle = True
        self.is_ending = False
        self.has_asked = False
        self._app = app
        self._stream = stream
        self._times = times
        self._scope = scope
        self._task = trio.CancelScope()
        self._reader = RequestReader()
        # What says why nothing can be read any more.
        self._fault: Answer | None = None
        self._is_gone = False
        self._gone = Signal()

    def cancel(self) -> None:
        """End it at once."""
        self._task.cancel()

    def end(self) -> None:
        """End it after the answer under way, if there is one."""
        self.is_ending = True
        if self.is_idle:
            self.cancel()

    async def run(self) -> None:
        """Serve it until it is over. Nothing it does is raised here."""
        try:
            with self._task:
                await self._serve()
        except BROKEN:
            pass
        except Exception as error:
            # Not with its message, which may quote what was sent: a key perhaps.
            _log.warning("an HTTP connection failed", errors=_kinds(error))
        finally:
            self._reader.close()
            await trio.aclose_forcefully(self._stream)

    async def _serve(self) -> None:
        while (request := await self._next_request()) is not None:
            exchange = Exchange(self, request)
            try:
                await self._app(self._scope_of(request), exchange.receive, exchange.send)
            except Exception:
                _log.exception("a request failed", method=request.method, path=request.path)
                self._fault = self._fault if exchange.is_begun else _FAILED
            if not exchange.is_begun:
                if self._fault is None and not exchange.is_abandoned:
                    _log.error("a request was not answered", method=request.method, path=request.path)
                    self._fault = _FAILED
                break
            if not exchange.keeps_alive:
                await self._linger()
                return
        if self._fault is not None:
            await self._refuse(self._fault)

    async def _next_request(self) -> Request | None:
        """Wait for a request; None if there will be none. If the client is to be told why, that is kept."""
        reader = self._reader
        if reader.requests:
            # Whoever sends many at once must not keep everybody else waiting.
            await trio.lowlevel.checkpoint()
        else:
            self.is_idle, self.due = True, trio.current_time() + self._times.idle
        while not reader.requests:
            if self.is_idle and not reader.is_between:
                self.is_idle, self.due = False, trio.current_time() + self._times.head
            if (self.is_idle and self.is_ending) or not await self.receive():
                self.is_idle = False
                return None
            # Whoever was cancelled just then must not begin what would be broken off.
            await trio.lowlevel.checkpoint_if_cancelled()
        self.is_idle, self.has_asked, self.due = False, True, math.inf
        return reader.requests.popleft()

    async def receive(self) -> bool:
        """Read on, so little at a time that the further requests in it take no time either.

        Returns:
            False if there will be nothing more.

        Raises:
            trio.BrokenResourceError: If the connection is gone.
        """
        if self._fault is not None:
            return False
        data = await self._stream.receive_some(MAX_HEAD)
        if not data and self._reader.is_between:
            return False
        try:
            self._reader.feed(bytes(data))
        except RequestError as error:
            # The error itself would keep this alive, by its traceback and that of the error before it.
            self._fault = error_answer(error.status, error.identifier, error.message)
        return True

    async def wait_until_gone(self) -> None:
        """Wait until the client is gone.

        Once something of a further request has come no more is read, or it might be any amount. Then it is
        only noticed when something is written.

        Raises:
            trio.BrokenResourceError: If the connection is gone.
        """
        reader = self._reader
        while self._fault is None and reader.is_between and not reader.requests:
            if not await self.receive():
                return
        while not self._is_gone:
            await self._gone.wait()

    async def receive_body(self, began: float) -> bool:
        """The same, for the body of a request whose head came at that moment, on Trio's clock."""
        with trio.move_on_at(began + self._times.body):
            return await self.receive() and self._fault is None
        self._fault = error_answer(
            408, "body-timeout", f"The body did not arrive within {self._times.body:g} seconds."
        )
        return False

    async def write(self, data: bytes) -> None:
        """Send. A client that takes nothing for long is given up.

        Raises:
            trio.BrokenResourceError: If the connection is gone.
        """
        try:
            if isinstance(self._stream, TcpStream):
                data = data[self._stream.send_now(data) :]
            for start in range(0, len(data), _AT_ONCE):
                self.due = trio.current_time() + self._times.send
                await self._stream.send_all(data[start : start + _AT_ONCE])
                self.due = math.inf
        except BROKEN:
            self._is_gone = True
            self._gone.set()
            raise

    async def _refuse(self, answer: Answer) -> None:
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), _CLOSE]
        await self.write(_head(answer.status, headers) + answer.body)
        await self._linger()

    async def _linger(self) -> None:
        # Were the connection closed with something unread, the client might never see its answer.
        self._reader.close()
        end = trio.current_time() + self._times.body
        if isinstance(self._stream, TcpStream):
            shut_down_sending(self._stream.socket)
        more = True
        while more:
            self.due = min(trio.current_time() + self._times.linger, end)
            more = bool(await self._stream.receive_some(_AT_ONCE))

    def _scope_of(self, request: Request) -> Scope:
        return {
            **self._scope,
            "http_version": request.version,
            "method": request.method,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
        }


class Exchange:
    """One request and its answer, as the application sees them: ``receive`` and ``send`` of ASGI.

    Args:
        connection: Where they come from and go to.
        request: The request.

    Attributes:
        is_begun: Whether something of the answer was sent.
        is_abandoned: Whether the application was told that the client is gone.
        keeps_alive: Whether the connection goes on when the application has returned.
    """

    __slots__ = (
        "_began",
        "_chunks",
        "_connection",
        "_continues",
        "_is_answered",
        "_is_read",
        "_persists",
        "_request",
        "_start",
        "_with_body",
        "is_abandoned",
        "is_begun",
        "keeps_alive",
    )

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self.is_begun = False
        self.is_abandoned = False
        self.keeps_alive = False
        self._began = trio.current_time()
        self._connection = connection
        self._request = request
        # Whether the client waits to be asked for the body.
        self._continues = request.expects_continue
        # Whether all of the body was handed on.
        self._is_read = False
        # How the answer begins, and whether all of it was handed over.
        self._start: Message | None = None
        self._is_answered = False
        # How the answer is sent: whether the connection goes on after it, with its body, and in chunks.
        self._persists = False
        self._with_body = True
        self._chunks = False

    async def receive(self) -> Message:
        """Return what has come of the body; after its end, wait until the client is gone."""
        request = self._request
        try:
            if self._is_read:
                await self._connection.wait_until_gone()
                self.is_abandoned = True
            elif not request.is_complete and not request.body:
                self.is_abandoned = not await self._receive_body()
        except BROKEN:
            self.is_abandoned = True
        if self.is_abandoned:
            return {"type": "http.disconnect"}
        self._is_read, self._continues = request.is_complete, False
        return {"type": "http.request", "body": request.take_body(), "more_body": not request.is_complete}

    async def _receive_body(self) -> bool:
        """Wait until something of the body is there, or its end; False if neither will come."""
        request, connection = self._request, self._connection
        if self._continues and not self.is_begun:
            await connection.write(_CONTINUE)
        while not request.is_complete and not request.body:
            if not await connection.receive_body(self._began):
                return False
        return True

    async def send(self, message: Message) -> None:
        """Send a part of the answer. If the client is gone nothing is sent, and nothing raised.

        Raises:
            RuntimeError: If there can be no such part now.
        """
        is_start = message["type"] == "http.response.start"
        if self._is_answered or is_start is (self._start is not None):
            raise RuntimeError("An answer has one start, and then parts of its body up to the last one.")
        if is_start:
            self._start = message
            return
        body: bytes = message.get("body", b"")
        self._is_answered = is_last = not message.get("more_body", False)
        head = b""
        if self._start is not None and not self.is_begun:
            head = self._begin(self._start, len(body) if is_last else None)
        if not self._with_body:
            body = b""
        elif self._chunks:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = chunk + b"0\r\n\r\n" if is_last else chunk
        # Whoever is cancelled, or too slow, has perhaps got a part of it.
        persists, self._persists = self._persists, False
        try:
            await self._connection.write(head + body)
        except BROKEN:
            return
        self._persists, self.keeps_alive = persists, persists and is_last
        if not is_last:
            # What is sent at once has let nobody else run.
            await trio.lowlevel.checkpoint()

    def _begin(self, start: Message, length: int | None) -> bytes:
        """Write the head of an answer whose body has this length, if that is known."""
        request, status = self._request, start["status"]
        self.is_begun = True
        self._persists = request.keeps_alive and request.is_complete and not self._connection.is_ending
        self._with_body = request.method != "HEAD" and status not in _WITHOUT_BODY
        headers: list[tuple[bytes, bytes]] = list(start.get("headers", ()))
        if self._with_body and not any(name.lower() == b"content-length" for name, _ in headers):
            if length is not None:
                headers.append((b"content-length", b"%d" % length))
            elif request.version == "1.1":
                self._chunks = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self._persists = False
        if not self._persists:
            headers.append(_CLOSE)
        elif request.version == "1.0":
            headers.append((b"connection", b"keep-alive"))
        return _head(status, headers)


def _head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in headers]
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"%bdate: %b\r\n%b\r\n" % (line, _date(int(time.time())), b"".join(lines))


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """The header that every answer of a server with a clock has (RFC 9110, section 6.6.1)."""
    return formatdate(second, usegmt=True).encode()


def _kinds(error: BaseException) -> list[str]:
    """The names of what was raised."""
    if isinstance(error, BaseExceptionGroup):
        return [kind for inner in error.exceptions for kind in _kinds(inner)]
    return [type(error).__name__]
