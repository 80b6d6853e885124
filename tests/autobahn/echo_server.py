"""An echo server for Autobahn's fuzzing client, made of what reads and writes frames here.

That is the protocol's own code, or trio-websocket.
"""

import sys
from contextlib import suppress

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from localful_ws.protocol import (
    BinaryReceived,
    CloseCode,
    CloseReceived,
    FrameReader,
    Malformed,
    PingReceived,
    Received,
    TextReceived,
    close_frame,
    pong_frame,
    text_frame,
)
from localful_ws.protocol.frame_reader import _Frame, _unmask
from localful_ws.server.boundary import run_bounded
from localful_ws.server.listeners import address, bind
from localful_ws.server.upgrade import accept_response, head_length, parse_upgrade
from localful_ws.tcp import TcpStream, accept_connections, shut_down_sending

_MIB = 1024 * 1024
_BINARY = 0x82


class EchoReader(FrameReader):
    """Keeps what binary messages say; the protocol has none, and drops it."""

    __slots__ = ("binary",)

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(max_message_bytes)
        self.binary = bytearray()

    def _read_payload(self, frame: _Frame) -> Received | None:
        if frame in (_Frame.LAST_BINARY, _Frame.BINARY_PART):
            payload = self._data[self._at : self._at + self._left]
            self.binary += _unmask(payload, self._mask)
            turn = len(payload) % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
        return super()._read_payload(frame)


async def echo(stream: TcpStream) -> None:
    """Read a handshake, and send back every message."""
    async with stream:
        received = bytearray()
        while (length := head_length(received)) is None:
            received += await stream.receive_some()
        await stream.send_all(accept_response(parse_upgrade(bytes(received[:length])), None))
        reader = EchoReader(16 * _MIB)
        data = bytes(received[length:]) or await stream.receive_some()
        while data:
            reader.receive(data)
            while (frame := reader.next()) is not None:
                answer, ends = answer_to(frame, reader)
                await stream.send_all(answer)
                if ends:
                    shut_down_sending(stream.socket)
                    with trio.move_on_after(2):
                        while await stream.receive_some():
                            pass
                    return
            data = await stream.receive_some()


def answer_to(frame: Received, reader: EchoReader) -> tuple[bytes, bool]:
    """What to send back, and whether it is the last."""
    match frame:
        case TextReceived(text):
            return text_frame(text.encode()), False
        case BinaryReceived():
            framed = text_frame(bytes(reader.binary))
            reader.binary.clear()
            return bytes([_BINARY]) + framed[1:], False
        case PingReceived(payload):
            return pong_frame(payload), False
        case CloseReceived():
            return close_frame(CloseCode.NORMAL, CloseCode.NORMAL.reason), True
        case Malformed(code):
            return close_frame(code, code.reason), True
        case _:
            return b"", False


async def echo_with_library(request: WebSocketRequest) -> None:
    """The same with trio-websocket."""
    with suppress(ConnectionClosed):
        socket = await request.accept()
        while True:
            await socket.send_message(await socket.get_message())


async def serve_bounded(stream: TcpStream) -> None:
    """Echo; what fails in one connection ends that one."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await run_bounded(echo, (stream,))


async def main(transport: str) -> None:
    """Echo on a free port of the loopback address, which is printed, until ended."""
    async with trio.open_nursery() as nursery:
        if transport == "trio-websocket":
            server = await nursery.start(_serve_with_library)
            print(server.port, flush=True)
        else:
            listening = bind("127.0.0.1", 0, setting="port", backlog=64)
            print(address(listening)[1], flush=True)
            await accept_connections(listening, serve_bounded, nursery)


async def _serve_with_library(*, task_status: trio.TaskStatus[object]) -> None:
    await serve_websocket(
        echo_with_library, "127.0.0.1", 0, None, max_message_size=16 * _MIB, task_status=task_status
    )


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
