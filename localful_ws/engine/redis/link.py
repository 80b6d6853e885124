"""A connection to a server of Redis: commands in, replies out, and between them what is published (RESP3).

Commands go out as they come, without waiting for earlier replies: those that come together are one write, and
so one round trip. What is published is taken as it is read; whoever is too slow for that meets Redis' own
limit for slow subscribers (``client-output-buffer-limit pubsub``).
"""

import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import hiredis
import trio
from attrs import define, field, frozen

from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError, raise_single
from localful_ws.engine.redis.rounds import Rounds
from localful_ws.tcp import TcpStream
from localful_ws.wakeup import Future, Signal

_CHUNK: Final = 64 * 1024
_MORE: Final = object()


class _ProtocolError(Exception):
    """What came is not RESP3."""


@frozen
class Server:
    """A server, and how to be let in.

    Attributes:
        host: Its name or address, or the path of a Unix domain socket.
        port: Its port; None with a path.
        timeout: Seconds it may take to accept a connection and to answer.
        tls: How to speak TLS, if it is spoken.
        username: Its user; None for the default one.
        password: Its password, if it wants one.
        db: The number of the database.
    """

    host: str
    port: int | None
    timeout: float
    tls: ssl.SSLContext | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Message:
    """What was published in a channel."""

    channel: bytes
    data: bytes


@frozen
class Ended:
    """A subscription to a shard channel that its server has ended: its slot is elsewhere now."""

    channel: bytes


Hear = Callable[[Sequence[Message | Ended]], None]


@define(eq=False)
class _Order:
    """A command by which channels are subscribed to or unsubscribed from: each is confirmed by itself."""

    kind: bytes
    missing: set[bytes]
    done: Future[None] = field(factory=Future[None])


class Link:
    """A connection, as `open_link` makes it.

    Attributes:
        server: To what.
        hello: What the server says of itself.
        confirming: What it takes to rely on what was written over it, if it takes anything.
    """

    def __init__(self, server: Server, stream: trio.abc.Stream, hear: Hear | None) -> None:
        self.server = server
        self.hello: dict[str, str] = {}
        self.confirming: Rounds | None = None
        self._stream = stream
        self._hear = hear
        self._reader = hiredis.Reader(
            protocolError=_ProtocolError, replyError=RedisRefusedError, notEnoughData=_MORE
        )
        self._out: list[bytes] = []
        self._to_send = Signal()
        self._is_sending = False
        self._waiting: deque[Future[Any] | _Order] = deque()
        # When something was heard last, and since when something has been waited for.
        self._heard = self._asked = trio.current_time()
        self._lost: RedisUnavailableError | None = None

    def send(self, *command: str | bytes | float) -> Future[Any]:
        """Send a command; what comes of it is its reply, or one of `REDIS_ERRORS`.

        Raises:
            RedisUnavailableError: If the connection is lost.
        """
        reply: Future[Any] = Future()  # Future[Any]() would take some microseconds more
        self._queue(command, reply)
        return reply

    async def call(self, *command: str | bytes | float) -> Any:
        """Send a command, and wait for its reply.

        Raises:
            RedisUnavailableError: If the connection is lost before it comes.
            RedisRefusedError: If it is an error.
        """
        return await self.send(*command).wait()

    def send_order(self, kind: str, channels: Iterable[bytes]) -> Future[None]:
        """Subscribe to channels, or unsubscribe from them; what comes of it is that all are confirmed.

        Args:
            kind: The command. That for shard channels takes those of one slot.
            channels: The channels.

        Raises:
            RedisUnavailableError: If the connection is lost.
        """
        missing = dict.fromkeys(channels)
        order = _Order(kind.lower().encode(), set(missing))
        self._queue((kind, *missing), order)
        return order.done

    def _queue(self, command: Sequence[str | bytes | int | float], reply: Future[Any] | _Order) -> None:
        if self._lost is not None:
            raise RedisUnavailableError(str(self._lost))
        packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]
        if not self._waiting:
            self._asked = trio.current_time()
            # Nobody else is about to send, so nothing is gained by waiting for them.
            packed = packed[self._send_now(packed) :]
        self._waiting.append(reply)
        if packed:
            self._out.append(packed)
            self._to_send.set()

    def _send_now(self, data: bytes) -> int:
        """Send what can be sent without waiting, and say how much that is."""
        if self._out or self._is_sending or not isinstance(self._stream, TcpStream):
            return 0
        try:
            return self._stream.send_now(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return 0  # whoever reads notices

    # --- its tasks ---

    async def write(self) -> None:
        """Send what is to be sent, until the connection is lost."""
        while True:
            while not self._out:
                await self._to_send.wait()
            data = b"".join(self._out)
            self._out.clear()
            rest = data[self._send_now(data) :]
            if rest:
                self._is_sending = True
                await self._stream.send_all(rest)
                self._is_sending = False

    async def read(self) -> None:
        """Take what comes, until the connection is lost."""
        while True:
            data = await self._stream.receive_some(_CHUNK)
            if not data:
                raise trio.BrokenResourceError("Redis closed the connection")
            self._heard = trio.current_time()
            self._reader.feed(bytes(data))
            heard = [each for each in map(self._take, iter(self._get, _MORE)) if each is not None]
            if heard and self._hear is not None:
                self._hear(heard)

    async def watch(self) -> None:
        """Ping where nothing is heard, until no answer comes for as long as the timeout.

        Raises:
            RedisUnavailableError: Then.
        """
        timeout = self.server.timeout
        while True:
            await trio.sleep(timeout / 4)
            now = trio.current_time()
            if not self._waiting:
                if now - self._heard >= timeout / 4:
                    self.send("PING")
            elif now - max(self._heard, self._asked) >= timeout:
                raise RedisUnavailableError(f"Redis at {self.server} does not answer any more.")

    def lose(self, error: RedisUnavailableError) -> None:
        """Take note that nothing comes any more."""
        if self._lost is None:
            self._lost = error
            for reply in self._waiting:
                (reply.done if isinstance(reply, _Order) else reply).fail(error)
            self._waiting.clear()

    def _get(self) -> Any:
        try:
            return self._reader.gets()
        except TypeError as error:  # a map with keys of which Python makes none
            raise _ProtocolError("Redis answered what can't be read") from error

    def _take(self, reply: Any) -> Message | Ended | None:
        if isinstance(reply, hiredis.PushNotification):
            return self._take_push(reply)
        if not self._waiting:
            raise _ProtocolError("Redis answered what it was not asked")
        waiting = self._waiting[0]
        if isinstance(reply, RedisRefusedError):
            (waiting.done if isinstance(waiting, _Order) else waiting).fail(reply)
        elif isinstance(waiting, _Order):
            raise _ProtocolError("Redis did not answer what it was asked")
        else:
            waiting.set(reply)
        self._waiting.popleft()
        return None

    def _take_push(self, push: Sequence[Any]) -> Message | Ended | None:
        match push:
            case [b"message" | b"smessage", bytes(channel), bytes(data)]:
                return Message(channel, data)
            case [bytes(kind), bytes(channel), int()] if kind.endswith(b"subscribe"):
                order = self._waiting[0] if self._waiting else None
                if isinstance(order, _Order) and order.kind == kind and channel in order.missing:
                    order.missing.remove(channel)
                    if not order.missing:
                        self._waiting.popleft()
                        order.done.set(None)
                    return None
                # When a slot moves, its old server ends the subscriptions to the shard channels in it.
                return Ended(channel)
            case _:
                return None  # what some servers tell of themselves


@asynccontextmanager
async def open_link(server: Server, hear: Hear | None = None) -> AsyncIterator[Link]:
    """Connect, until the end of the block or until the connection is lost.

    Args:
        server: To what.
        hear: Takes what is published in the channels that are subscribed to.

    Raises:
        RedisUnavailableError: If it can't be reached or refuses; and out of the block, when the connection is
            lost.
    """
    stream = await _connect(server)
    link = Link(server, stream, hear)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, link, link.write)
            nursery.start_soon(_run, link, link.read)
            await _greet(link)
            nursery.start_soon(_run, link, link.watch)
            yield link
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_single(group)
        raise
    finally:
        link.lose(RedisUnavailableError(f"The connection to Redis at {server} is closed."))
        await trio.aclose_forcefully(stream)


async def _run(link: Link, task: Callable[[], Awaitable[None]]) -> None:
    try:
        await task()
    except (OSError, trio.BrokenResourceError, _ProtocolError) as error:
        lost = RedisUnavailableError(f"The connection to Redis at {link.server} is lost: {_because(error)}.")
        link.lose(lost)
        raise lost from error
    except RedisUnavailableError as error:
        link.lose(error)
        raise


async def _connect(server: Server) -> trio.abc.Stream:
    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
    try:
        with trio.fail_after(server.timeout):
            if server.port is None:
                return await trio.open_unix_socket(server.host)
            stream = await trio.open_tcp_stream(server.host, server.port)
            if server.tls is None:
                # Unless it is one of memory, as in tests.
                return _light(stream) if isinstance(stream, trio.SocketStream) else stream
            stream = tls = trio.SSLStream(
                stream, server.tls, server_hostname=server.host, https_compatible=True
            )
            await tls.do_handshake()
            return stream
    except BaseException as error:
        if stream is not None:
            await trio.aclose_forcefully(stream)
        # A name that others have told may be none, which is an error of its encoding.
        if isinstance(error, OSError | trio.BrokenResourceError | trio.TooSlowError | UnicodeError):
            raise RedisUnavailableError(f"Redis at {server} can't be reached: {_because(error)}.") from error
        raise


def _light(stream: trio.SocketStream) -> TcpStream:
    """The same connection in a stream that can be written to without waiting."""
    return TcpStream(socket.socket(fileno=stream.socket.detach()))


async def _greet(link: Link) -> None:
    server = link.server
    hello: list[str | int] = ["HELLO", 3]
    if server.username is not None or server.password is not None:
        hello += ["AUTH", server.username or "default", server.password or ""]
    try:
        with trio.fail_after(server.timeout):
            said = await link.call(*hello)
            if not isinstance(said, dict):
                raise RedisUnavailableError(f"Redis at {server} does not speak RESP3.")
            link.hello = {
                key.decode(errors="replace"): value.decode(errors="replace")
                for key, value in said.items()
                if isinstance(key, bytes) and isinstance(value, bytes)
            }
            if server.db:
                await link.call("SELECT", server.db)
    except RedisRefusedError as error:
        reason = str(error).rstrip(".")
        raise RedisUnavailableError(f"Redis at {server} refuses the connection: {reason}.") from error
    except trio.TooSlowError as error:
        raise RedisUnavailableError(
            f"Redis at {server} can't be reached: there was no answer in time."
        ) from error


def _because(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "there was no answer in time"
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    return str(cause or error).rstrip(".") or type(error).__name__
