"""What a parent and a worker say to each other, over a socketpair.

A message is MessagePack behind its length. Settings, which only ever go from parent to worker, are pickled in
it; a parent unpickles nothing.
"""

import socket
import struct
from contextlib import suppress
from typing import Final, Generic, TypeVar

import msgspec
import trio

from localful_ws.server.survey.questions import Answered, Ask

MOST_BYTES: Final = 16 * 1024 * 1024
"""The size of a message: the files that settings hold, or an answer."""

_MOST_WAITING: Final = 256
_LENGTH: Final = struct.Struct("!I")
_RECEIVE_BYTES: Final = 65536

Received = TypeVar("Received")


class Start(msgspec.Struct, frozen=True, tag=True):
    """To a worker, first of all: what to be.

    Attributes:
        settings: Pickled `Settings`, with the ports that were taken.
    """

    settings: bytes


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To a worker: drain and end."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """To the parent: devices and publishers are accepted from now on."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """To the parent: there is no starting with these settings.

    Attributes:
        message: A sentence for the operator.
        listening: Whether an address can't be listened on; else a setting is impossible.
    """

    message: str
    listening: bool


ToWorker = Start | Drain | Ask | Answered
ToParent = Ready | Failed | Ask | Answered


class BrokenChannelError(Exception):
    """What arrived is no message."""


class Channel(Generic[Received]):
    """One end of the socketpair.

    Args:
        sock: The socket; the channel owns it from now on.
        decoder: Of the messages that arrive here.
    """

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[Received]) -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._decoder = decoder
        self._received = bytearray()
        self._post, self._posted = trio.open_memory_channel[bytes](_MOST_WAITING)

    def post(self, message: ToWorker | ToParent) -> None:
        """Have a message sent soon. It is dropped if the other side has long stopped reading, or is gone."""
        data = msgspec.msgpack.encode(message)
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._post.send_nowait(_LENGTH.pack(len(data)) + data)

    def finish(self) -> None:
        """Post nothing more: `send_posted` returns when it has sent what is waiting."""
        self._post.close()

    async def send_posted(self) -> None:
        """Send what is posted, until `finish` or until the other side is gone."""
        try:
            async for data in self._posted:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._posted.close()

    async def receive(self) -> Received | None:
        """Receive a message; None if the other side is gone.

        Raises:
            BrokenChannelError: If what arrives is no message.
        """
        if not await self._collect(_LENGTH.size):
            return None
        (length,) = _LENGTH.unpack_from(self._received)
        if length > MOST_BYTES:
            raise BrokenChannelError
        end = _LENGTH.size + length
        if not await self._collect(end):
            return None
        data = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        try:
            return self._decoder.decode(data)
        except msgspec.DecodeError:
            raise BrokenChannelError from None

    async def _collect(self, size: int) -> bool:
        """Receive until there are ``size`` bytes; False if they don't come."""
        while len(self._received) < size:
            try:
                received = await self._stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError:
                return False
            if not received:
                return False
            self._received += received
        return True

    def close(self) -> None:
        """Close this end; for the other side that is the end."""
        self._stream.socket.close()
        self._post.close()
        self._posted.close()


def parent_end(sock: socket.socket) -> Channel[ToParent]:
    """Make the parent's end of a socketpair a channel."""
    return Channel(sock, msgspec.msgpack.Decoder(ToParent))


def worker_end(sock: socket.socket) -> Channel[ToWorker]:
    """Make a worker's end of a socketpair a channel."""
    return Channel(sock, msgspec.msgpack.Decoder(ToWorker))
