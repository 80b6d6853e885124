"""Devices with a task: where there is no epoll, or what comes is not a socket's (TLS, memory streams)."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from localful_ws.server.tls import TlsStream
from localful_ws.server.websocket import Line, WebSocket
from localful_ws.tcp import TcpStream, shut_down_sending

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises that is at its end."""

RECEIVE_BYTES = 4096
"""How much is received at once."""

# What a stream is given at once: a TLS record. It is copied, and counted nowhere.
_CHUNK = 16384

StartSoon = Callable[[Callable[[], Awaitable[object]]], object]
"""Starts a task among the connections; if it raises that is logged and harms nobody else."""


async def receive(stream: trio.abc.Stream, device: WebSocket) -> None:
    """Wait for what comes next, and push it into the device when it is its turn."""
    try:
        data = await stream.receive_some(RECEIVE_BYTES)
    except BROKEN:
        data = b""
    await device.turn.wait()
    if data:
        device.received(bytes(data))
    else:
        device.lost()


class StreamPump:
    """Pushes one device from a stream, and sends for it.

    Only sockets can be sent to without waiting. For another stream this is the line: it takes some bytes, and
    no more until those are sent, as a kernel does.

    Args:
        stream: The stream; the pump owns it from now on.
        start_soon: Starts what sends.
        close_timeout: Seconds that what is being sent has still to leave when the stream is closed.

    Attributes:
        device: The device, once there is one, until it is gone.
    """

    __slots__ = (
        "_broken",
        "_close_timeout",
        "_flushing",
        "_start_soon",
        "_stream",
        "_taken",
        "device",
    )

    def __init__(self, stream: trio.abc.Stream, start_soon: StartSoon, close_timeout: float) -> None:
        self._stream = stream
        self._start_soon = start_soon
        self._close_timeout = close_timeout
        self._taken = b""
        self._broken = False
        # While something is being sent: what bounds it.
        self._flushing: trio.CancelScope | None = None
        self.device: WebSocket | None = None

    @property
    def line(self) -> Line:
        """What the device sends on."""
        return self._stream.socket if isinstance(self._stream, TcpStream) else self

    async def run(self) -> None:
        """Push the device until it reads no more. What fails in that is logged, and raised nowhere."""
        device = self.device
        if device is None:
            return
        try:
            while device.reading:
                await self.receive(device)
                await device.verify()
        except Exception:
            device.fail()
        except trio.Cancelled:
            device.abort()
            raise

    async def receive(self, device: WebSocket) -> None:
        """Wait for what comes next, and push it into the device."""
        await receive(self._stream, device)

    # --- in place of a socket ---

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """See `localful_ws.server.websocket.Line`."""
        if self._broken or self.device is None:
            raise OSError("The stream is closed.")
        if self._taken:
            raise BlockingIOError
        self._taken = bytes(data[:_CHUNK])
        self._flush_soon()
        return len(self._taken)

    def sendmsg(self, buffers: Sequence[bytes | memoryview], /) -> int:
        """See `localful_ws.server.websocket.Line`."""
        data = bytearray()
        for buffer in buffers:
            data += buffer[: _CHUNK - len(data)]
            if len(data) == _CHUNK:
                break
        return self.send(data) if data else 0

    # --- a pump ---

    def interest_changed(self, device: WebSocket) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        if device.buffer is not None:
            self._flush_soon()

    def stop_sending(self, _: WebSocket) -> None:
        """See `localful_ws.server.websocket.Pump`. Only sockets have a way to say so that is of use."""
        if isinstance(self._stream, TcpStream):
            shut_down_sending(self._stream.socket)

    def close(self, _: WebSocket, *, at_once: bool) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        self.device = None
        if self._flushing is not None and not at_once and not isinstance(self._stream, TcpStream):
            # What it has taken may still leave.
            self._flushing.deadline = trio.current_time() + self._close_timeout
        elif isinstance(self._stream, TcpStream | TlsStream):
            self._stream.close(at_once=at_once)
        else:
            self._start_soon(self._close)

    def _flush_soon(self) -> None:
        if self._flushing is None:
            self._flushing = trio.CancelScope()
            self._start_soon(self._flush)

    async def _flush(self) -> None:
        scope = self._flushing
        if scope is None:
            return
        try:
            with scope:
                if isinstance(self._stream, TcpStream):
                    await self._flush_socket(self._stream)
                else:
                    await self._flush_stream()
        except BROKEN:
            self._broken = True
            self._taken = b""
            if self.device is not None:
                self.device.writable()
        except trio.Cancelled:
            # The node ends. Of a device that reads no more nobody else takes note.
            if self.device is not None:
                self.device.abort()
            raise
        finally:
            self._flushing = None
            if self.device is None:
                await self._close()

    async def _flush_socket(self, stream: TcpStream) -> None:
        while self.device is not None and self.device.buffer is not None:
            await stream.wait_writable()
            if self.device is not None:
                self.device.writable()

    async def _flush_stream(self) -> None:
        while self._taken:
            await self._stream.send_all(self._taken)
            self._taken = b""
            if self.device is not None:
                self.device.writable()

    async def _close(self) -> None:
        await trio.aclose_forcefully(self._stream)
