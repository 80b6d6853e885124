"""Trio's streams as the client takes them, so that it runs over memory streams on Trio's mock clock."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import trio
from anyio.abc import ByteStream
from attrs import frozen


@contextmanager
def _in_words_of_anyio() -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError as error:
        raise anyio.BrokenResourceError from error
    except trio.ClosedResourceError as error:
        raise anyio.ClosedResourceError from error


@frozen
class TrioByteStream(ByteStream):
    """A stream of Trio's that is one of anyio's."""

    stream: trio.abc.Stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        with _in_words_of_anyio():
            data = await self.stream.receive_some(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return bytes(data)

    async def send(self, item: bytes) -> None:
        with _in_words_of_anyio():
            await self.stream.send_all(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self.stream.aclose()


def for_client(open_stream: Callable[[], Awaitable[trio.abc.Stream]]) -> Callable[[], Awaitable[ByteStream]]:
    """The ``open_stream`` of a client, from one that opens a stream of Trio's."""

    async def open_byte_stream() -> ByteStream:
        with _in_words_of_anyio():
            return TrioByteStream(await open_stream())

    return open_byte_stream
