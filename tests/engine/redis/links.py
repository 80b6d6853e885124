"""Connections to servers, as tests want them: to real ones, and to ones that live in memory."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import hiredis
import pytest
import trio
from attrs import Factory, define
from trio.testing import memory_stream_pair

from localful_ws.engine.redis.errors import raise_single
from localful_ws.engine.redis.link import Hear, Link, Server, open_link
from localful_ws.engine.redis.servers import Place, Servers
from localful_ws.redis_url import parse_url

Command = list[bytes]
HERE = Server("redis", 6379, 4.0)
OK = b"+OK\r\n"


def open_url(url: str, hear: Hear | None = None, timeout: float = 5.0) -> AbstractAsyncContextManager[Link]:
    """Connect to the first server that a URL names."""
    return open_link(Servers.of(parse_url(url), timeout).first[0], hear)


def bulk(*texts: bytes | str) -> bytes:
    """What RESP3 writes for so many texts, one after the other."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in encoded)


def push(*texts: bytes | str) -> bytes:
    """What a server sends without being asked."""
    return b">%d\r\n" % len(texts) + bulk(*texts)


def confirm(kind: str, *channels: bytes | str) -> bytes:
    """How a server says that channels are subscribed to, or not any more."""
    return b"".join(b">3\r\n" + bulk(kind, channel) + b":1\r\n" for channel in channels)


def introduce(**changes: str) -> bytes:
    """What a server answers to HELLO."""
    said = {"server": "redis", "version": "7.2.4", "mode": "standalone", "role": "master"} | changes
    pairs = bulk(*(text for pair in said.items() for text in pair))
    return b"%%%d\r\n" % (len(said) + 1) + pairs + bulk("id") + b":7\r\n"


@define(eq=False)
class Remote:
    """A server's end of a connection.

    Attributes:
        stream: What the client writes comes out of it.
    """

    stream: trio.abc.Stream
    _reader: hiredis.Reader = Factory(hiredis.Reader)

    async def next(self) -> Command:
        """The next command."""
        while True:
            command: Any = self._reader.gets()
            if command is not False:
                return list(command)
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._reader.feed(bytes(data))

    async def greet(self, **changes: str) -> None:
        """Answer HELLO."""
        assert (await self.next())[0] == b"HELLO"
        await self.stream.send_all(introduce(**changes))

    async def send(self, data: bytes, size: int = 0) -> None:
        """Send something, in pieces of a size."""
        for start in range(0, len(data), size or len(data) or 1):
            await self.stream.send_all(data[start : start + (size or len(data))])


Serve = Callable[[Remote], Any]


@contextmanager
def in_memory(places: Mapping[Place, Serve], nursery: trio.Nursery) -> Iterator[None]:
    """Have servers at some places that live in memory; where there is none nobody listens."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        serve = places.get((host, port))
        if serve is None:
            raise ConnectionRefusedError("nobody listens")
        near, far = memory_stream_pair()
        nursery.start_soon(_serve, serve, Remote(far))
        return near

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio, "open_tcp_stream", connect)
        yield


async def _serve(serve: Serve, remote: Remote) -> None:
    try:
        await serve(remote)
    except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        await trio.aclose_forcefully(remote.stream)


@asynccontextmanager
async def linked(hear: Hear | None = None, server: Server = HERE) -> AsyncIterator[tuple[Link, Remote]]:
    """A connection in memory, and its other end; it says hello by itself."""
    opened, remotes = trio.open_memory_channel[Remote](1)
    done = trio.Event()

    async def serve(remote: Remote) -> None:
        await remote.greet()
        opened.send_nowait(remote)
        await done.wait()

    assert server.port is not None
    try:
        async with trio.open_nursery() as nursery:
            try:
                with in_memory({(server.host, server.port): serve}, nursery):
                    async with open_link(server, hear) as link:
                        yield link, await remotes.receive()
            finally:
                done.set()
    except BaseExceptionGroup as group:
        raise_single(group)
        raise
