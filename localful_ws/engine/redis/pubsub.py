"""Subscriptions to channels in Redis, on connections of their own.

Not coredis' own: that one reads from the socket whether or not anybody takes the messages, takes one message
at a time through two unbounded queues, and does not notice when a shard channel moves to another server. Here
nothing is read before what came earlier has been taken, so Redis' own limit for slow subscribers
(``client-output-buffer-limit pubsub``) holds, and whatever puts a subscription in doubt ends all of them.
"""

import ssl
from binascii import crc_hqx
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Self

import trio
from attrs import define, field, frozen

from localful_ws.engine.redis.errors import RedisUnavailableError, raise_single
from localful_ws.engine.redis.replies import ErrorReply, ProtocolError, Push, ReplyReader

Channel = str | bytes

_CHUNK: Final = 64 * 1024
# What has been read and not been taken: so many chunks of messages.
_CHUNKS_AHEAD: Final = 4
_SLOTS: Final = 16384


@frozen
class Message:
    """What was published in a channel."""

    channel: bytes
    data: bytes


@frozen
class Server:
    """A server to subscribe at.

    Attributes:
        host: Its name or address, or the path of a Unix domain socket.
        port: Its port; None with a path.
        timeout: Seconds it may take to accept a connection and to answer, and may be silent.
        tls: How to speak TLS, if it is spoken.
        username: Its user; None for the default one.
        password: Its password, if it wants one.
    """

    host: str
    port: int | None
    timeout: float
    tls: ssl.SSLContext | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"


def hash_slot(channel: bytes) -> int:
    """The slot of a cluster that a key or shard channel is in."""
    opening = channel.find(b"{")
    closing = channel.find(b"}", opening + 1)
    if opening >= 0 and closing > opening + 1:
        channel = channel[opening + 1 : closing]
    return crc_hqx(channel, 0) % _SLOTS


@define(eq=False)
class _Order:
    """A command of which some channels are not confirmed yet."""

    kind: bytes
    missing: set[bytes]
    done: trio.Event = field(factory=trio.Event)


async def connect(server: Server) -> tuple[trio.abc.Stream, ReplyReader]:
    """Connect to a server and introduce ourselves.

    Raises:
        RedisUnavailableError: If that can't be done within the timeout, or if the server refuses.
    """
    stream: trio.abc.Stream | None = None
    try:
        with trio.fail_after(server.timeout):
            if server.port is None:
                stream = await trio.open_unix_socket(server.host)
            else:
                stream = await trio.open_tcp_stream(server.host, server.port)
            if server.tls is not None:
                stream = tls = trio.SSLStream(
                    stream, server.tls, server_hostname=server.host, https_compatible=True
                )
                await tls.do_handshake()
            return stream, await _greet(stream, server)
    except BaseException as error:
        if stream is not None:
            await trio.aclose_forcefully(stream)
        if isinstance(error, OSError | trio.BrokenResourceError | trio.TooSlowError | ProtocolError):
            raise RedisUnavailableError(f"Redis at {server} can't be reached: {_because(error)}.") from error
        raise


async def _greet(stream: trio.abc.Stream, server: Server) -> ReplyReader:
    greeting: list[Channel] = [b"HELLO", b"3"]
    if server.username is not None or server.password is not None:
        greeting += [b"AUTH", server.username or b"default", server.password or b""]
    await stream.send_all(_pack(greeting))
    reader = ReplyReader()
    answer = None
    while answer is None:
        reader.feed(await _receive(stream))
        answer = next(reader.replies(), None)
    if isinstance(answer, ErrorReply):
        raise RedisUnavailableError(f"Redis at {server} refuses the connection: {answer.text}.")
    return reader


class Link:
    """A connection to one server that is subscribed to channels.

    Args:
        server: The server.
        stream: The connection, as `connect` has made it.
        reader: What has been read from it.
        sharded: Whether the channels are shard channels of a cluster.
    """

    def __init__(
        self, server: Server, stream: trio.abc.Stream, reader: ReplyReader, *, sharded: bool
    ) -> None:
        self._server = server
        self._stream = stream
        self._reader = reader
        self._timeout = server.timeout
        self._prefix = b"S" if sharded else b""
        self._message = b"smessage" if sharded else b"message"
        self._kinds = (self._prefix.lower() + b"subscribe", self._prefix.lower() + b"unsubscribe")
        self._sharded = sharded
        self._sending = trio.Lock()
        self._orders: deque[_Order] = deque()
        self._heard = trio.current_time()
        self._handing_over = False

    async def read(self, out: trio.MemorySendChannel[Sequence[Message]]) -> None:
        """Hand over what arrives, for ever.

        Raises:
            RedisUnavailableError: When the connection is lost, or a subscription in doubt.
        """
        try:
            while True:
                self._reader.feed(await _receive(self._stream))
                self._heard = trio.current_time()
                messages: list[Message] = []
                for reply in self._reader.replies():
                    self._take(reply, messages)
                if messages:
                    self._handing_over = True
                    await out.send(messages)
                    self._handing_over = False
                    self._heard = trio.current_time()
        except (OSError, trio.BrokenResourceError, ProtocolError) as error:
            raise self._lost(error) from error

    async def watch(self) -> None:
        """Ping when it has been silent, for ever.

        Raises:
            RedisUnavailableError: If nothing comes for as long as the timeout.
        """
        half = self._timeout / 2
        while True:
            await trio.sleep_until(self._heard + half)
            silent_since = self._heard
            if self._handing_over:
                await trio.sleep(half)
            elif trio.current_time() - silent_since >= half:
                async with self._sending:
                    await self._send(_pack([b"PING"]))
                await trio.sleep(half)
                if self._heard == silent_since and not self._handing_over:
                    raise RedisUnavailableError(f"Redis at {self._server} does not answer any more.")

    async def order(self, channels: Iterable[bytes], *, subscribe: bool) -> None:
        """Subscribe or unsubscribe, and wait until it is confirmed. Somebody must be in `read`.

        Raises:
            RedisUnavailableError: If it isn't within the timeout.
        """
        command = self._prefix + (b"SUBSCRIBE" if subscribe else b"UNSUBSCRIBE")
        # The channels of one command must be of one slot.
        groups: defaultdict[int, list[bytes]] = defaultdict(list)
        for channel in dict.fromkeys(channels):
            groups[hash_slot(channel) if self._sharded else 0].append(channel)
        orders = [_Order(self._kinds[not subscribe], set(group)) for group in groups.values()]
        # Together with the sending: orders are confirmed in the order of the commands.
        async with self._sending:
            self._orders += orders
            await self._send(b"".join(_pack([command, *group]) for group in groups.values()))
        with trio.move_on_after(self._timeout):
            for order in orders:
                await order.done.wait()
            return
        raise RedisUnavailableError(f"Redis at {self._server} has not confirmed a subscription in time.")

    async def close(self) -> None:
        """Drop the connection."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, data: bytes) -> None:
        try:
            # Half a command would spoil all that come after it.
            with trio.fail_after(self._timeout, shield=True):
                await self._stream.send_all(data)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            raise self._lost(error) from error

    def _take(self, reply: Any, messages: list[Message]) -> None:
        if isinstance(reply, Push):
            kind = reply.items[0]
            if kind == self._message:
                messages.append(Message(reply.items[1], reply.items[2]))
            elif kind in self._kinds:
                self._confirm(kind, reply.items[1])
        elif isinstance(reply, ErrorReply):
            raise RedisUnavailableError(f"Redis at {self._server} refuses a subscription: {reply.text}.")

    def _confirm(self, kind: bytes, channel: bytes) -> None:
        order = self._orders[0] if self._orders else None
        if order is None or order.kind != kind or channel not in order.missing:
            # When a slot moves, its old server ends the subscriptions to the shard channels in it.
            raise RedisUnavailableError(f"Redis at {self._server} has ended a subscription.")
        order.missing.remove(channel)
        if not order.missing:
            self._orders.popleft()
            order.done.set()

    def _lost(self, error: Exception) -> RedisUnavailableError:
        return RedisUnavailableError(f"The connection to Redis at {self._server} is lost: {_because(error)}.")


class PubSub:
    """Subscriptions to channels: iterate to get each `Message`, one after the other.

    Somebody must iterate while another task subscribes or unsubscribes. Iterating does not let others run as
    long as messages are at hand, which are at most what fits into 64 KiB.
    """

    def __init__(
        self,
        links: Mapping[int, Link],
        link_of_slot: Sequence[int] | None,
        batches: trio.MemoryReceiveChannel[Sequence[Message]],
    ) -> None:
        self._links = links
        self._link_of_slot = link_of_slot
        self._batches = batches
        self._batch: deque[Message] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self._batch:
            self._batch.extend(await self._batches.receive())
        return self._batch.popleft()

    async def subscribe(self, *channels: Channel) -> None:
        """Subscribe to channels, and wait until Redis has confirmed it.

        Raises:
            RedisUnavailableError: If it does not within the timeout. What is subscribed to is then unknown.
        """
        await self._order(channels, subscribe=True)

    async def unsubscribe(self, *channels: Channel) -> None:
        """Unsubscribe from channels, and wait until Redis has confirmed it.

        Raises:
            RedisUnavailableError: If it does not within the timeout. What is subscribed to is then unknown.
        """
        await self._order(channels, subscribe=False)

    async def _order(self, channels: Iterable[Channel], *, subscribe: bool) -> None:
        per_link: defaultdict[int, list[bytes]] = defaultdict(list)
        for channel in channels:
            name = _encode(channel)
            per_link[self._link_of_slot[hash_slot(name)] if self._link_of_slot else 0].append(name)
        try:
            async with trio.open_nursery() as nursery:
                for index, names in per_link.items():
                    nursery.start_soon(partial(self._links[index].order, names, subscribe=subscribe))
        except BaseExceptionGroup as group:
            raise_single(group)
            raise


@asynccontextmanager
async def open_links(
    servers: Sequence[Server], link_of_slot: Sequence[int] | None = None
) -> AsyncIterator[PubSub]:
    """Connect, and listen until the end of the block or until a connection is lost.

    Args:
        servers: One server, or those that have the slots of a cluster.
        link_of_slot: Index of the server of each slot, in a cluster.

    Raises:
        RedisUnavailableError: If one can't be reached; and out of the block, when one is lost.
    """
    links: dict[int, Link] = {}
    send, receive = trio.open_memory_channel[Sequence[Message]](_CHUNKS_AHEAD)

    async def open_link(index: int) -> None:
        stream, reader = await connect(servers[index])
        links[index] = Link(servers[index], stream, reader, sharded=link_of_slot is not None)

    try:
        async with trio.open_nursery() as nursery:
            for index in range(len(servers)):
                nursery.start_soon(open_link, index)
        async with trio.open_nursery() as nursery:
            for link in links.values():
                nursery.start_soon(link.read, send)
                nursery.start_soon(link.watch)
            yield PubSub(links, link_of_slot, receive)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_single(group)
        raise
    finally:
        with trio.CancelScope(shield=True):
            for link in links.values():
                await link.close()


async def _receive(stream: trio.abc.Stream) -> bytes | bytearray:
    data = await stream.receive_some(_CHUNK)
    if not data:
        raise trio.BrokenResourceError("Redis closed the connection")
    return data


def _pack(parts: Sequence[Channel]) -> bytes:
    encoded = [_encode(part) for part in parts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in encoded)


def _encode(channel: Channel) -> bytes:
    return channel.encode() if isinstance(channel, str) else channel


def _because(error: Exception) -> str:
    if isinstance(error, trio.TooSlowError):
        return "there was no answer in time"
    causes = error.__cause__ if isinstance(error, trio.BrokenResourceError) else error
    return str(causes or error).rstrip(".") or type(error).__name__
