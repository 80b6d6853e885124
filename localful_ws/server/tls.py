"""TLS for devices that connect without a proxy (RFC 8446): the standard library's, on a stream of ours."""

import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from localful_ws.tcp import TcpStream

_RECEIVE_BYTES = 4096
_Result = TypeVar("_Result")


class TlsStream(trio.abc.Stream):
    """The server's side of TLS on top of another stream; one task may receive and one may send.

    `trio.SSLStream` holds on to itself, and would leave every connection to the garbage collector, which
    looks at old objects seldom (`localful_ws.server.collector`).

    The end of the connection is the end of the stream, also without TLS's own word for it: a WebSocket says
    itself when it is over.

    Args:
        transport: What it runs on; the stream owns it from now on.
        context: The certificate, and what else is to hold.
    """

    __slots__ = ("_incoming", "_outgoing", "_sending", "_tls", "_transport")

    def __init__(self, transport: TcpStream, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Fair: what is encrypted leaves in the order in which it was.
        self._sending = trio.StrictFIFOLock()

    async def do_handshake(self) -> None:
        """Agree on keys, before anything else.

        Raises:
            trio.BrokenResourceError: If what the peer says is no TLS, or none that is to our liking.
        """
        await self._do(self._shake_hands)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        try:
            return await self._do(partial(self._tls.read, max_bytes or _RECEIVE_BYTES))
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, ssl.SSLEOFError):
                return b""
            raise

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        rest = memoryview(data)
        while rest:
            rest = rest[await self._do(partial(self._tls.write, rest)) :]

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the connection; whoever waits for it gets `trio.ClosedResourceError`."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self, *, at_once: bool = False) -> None:
        """Close the connection; see `TcpStream.close`."""
        self._transport.close(at_once=at_once)

    def _shake_hands(self) -> bool:
        self._tls.do_handshake()
        return True

    async def _do(self, act: Callable[[], _Result]) -> _Result:
        """Do something with TLS, with as much from the peer as that takes; send what is to be sent for it."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                result = None
            except ssl.SSLError as error:
                raise trio.BrokenResourceError("This is no TLS, or none that holds.") from error
            # Taken at once: what another task encrypts meanwhile is for that one to wait for.
            if encrypted := self._outgoing.read():
                async with self._sending:
                    await self._transport.send_all(encrypted)
            if result is not None:
                return result
            data = await self._transport.receive_some(_RECEIVE_BYTES)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
