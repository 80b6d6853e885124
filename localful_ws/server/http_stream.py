"""The stream that Hypercorn is given for one HTTP connection.

Hypercorn's Trio worker leaves open what some clients do to a TCP connection; it is settled here.
"""

import trio
from hypercorn.trio.worker_context import WorkerContext

_UNREAD_SECONDS = 10.0
# Longer than all that is legitimate, for connections that Hypercorn itself forgets. Its own such timeout
# looks at what comes only, and would end an answer that goes on for long.
_SILENT_SECONDS = 120.0
# More than any answer takes that a client may still wait for when it has closed its own direction.
_AFTERMATH_SECONDS = 30.0


class HttpStream:
    """A TCP stream for Hypercorn's `TCPServer`.

    - Hypercorn keeps a connection that the client closed until its keep-alive time is over, and one that was
      upgraded to HTTP/2 for ever. Here the end of what is received ends its ``context``, which exists for
      this connection only; 30 s later what is left is cancelled.
    - It shields what it sends from cancellation. Here a client that takes nothing for 10 s is dropped.
    - Where nothing comes or goes for 120 s, the connection is over.
    - It may close a connection in the middle of sending an answer. Here that looks to the sender like any
      other connection that is gone.

    Args:
        stream: The connection.
        context: Hypercorn's context of this connection.
        scope: What all of the connection runs in.

    Attributes:
        socket: The connection's socket, from which Hypercorn takes the addresses.
    """

    __slots__ = ("_active_at", "_context", "_scope", "_stream", "socket")

    def __init__(self, stream: trio.SocketStream, context: WorkerContext, scope: trio.CancelScope) -> None:
        self.socket = stream.socket
        self._active_at = trio.current_time()
        self._context = context
        self._scope = scope
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; see `trio.abc.ReceiveStream.receive_some`.

        Raises:
            trio.TooSlowError: If for long nothing has come, nor gone.
        """
        received: bytes | bytearray = b""
        try:
            received = await self._receive(max_bytes)
        finally:
            if not received:
                await self._context.terminated.set()
                self._scope.deadline = trio.current_time() + _AFTERMATH_SECONDS
        return received

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        self._active_at = trio.current_time()
        while (deadline := self._active_at + _SILENT_SECONDS) > trio.current_time():
            with trio.move_on_at(deadline):
                return await self._stream.receive_some(max_bytes)
        raise trio.TooSlowError

    async def send_all(self, data: bytes) -> None:
        """Send; see `trio.abc.SendStream.send_all`.

        Raises:
            trio.BrokenResourceError: If the connection is gone or its client doesn't read.
        """
        if not data:  # Hypercorn ends every answer with it
            return
        with trio.move_on_after(_UNREAD_SECONDS):
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError:
                raise trio.BrokenResourceError("The connection is being closed.") from None
            self._active_at = trio.current_time()
            return
        await trio.aclose_forcefully(self._stream)
        raise trio.BrokenResourceError("The client does not read.")

    async def send_eof(self) -> None:
        """Say that nothing more comes; see `trio.abc.HalfCloseableStream.send_eof`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close; see `trio.abc.AsyncResource.aclose`."""
        await self._stream.aclose()
