"""An echo server made of a transport alone, for Autobahn's fuzzing client.

It keeps to what the transport offers the daemon: whole messages in, whole frames out, a close with a code.
"""

import sys

import trio

from localful_ws.protocol import text_frame
from localful_ws.server.boundary import Boundary
from localful_ws.server.listeners import address, bind
from localful_ws.server.outbox import OutboxPeaks, OutboxPolicy
from localful_ws.server.tcp import TcpStream, accept_connections
from localful_ws.server.transport import ACCEPTERS
from localful_ws.server.transport.base import RequestHead, TransportClosedError, TransportHost, Upgrade

_MIB = 1024 * 1024
_BINARY = 0x82


def frame_of(message: str | bytes) -> bytes:
    """Frame a message as it came: text as text, binary as binary."""
    if isinstance(message, str):
        return text_frame(message.encode())
    framed = text_frame(message)
    return bytes([_BINARY]) + framed[1:]


async def accept_anything(_: RequestHead) -> Upgrade:
    """Let every handshake go ahead."""
    return Upgrade(None)


async def main(transport: str) -> None:
    """Echo on a free port of the loopback address, which is printed, until ended."""
    listening = bind("127.0.0.1", 0, setting="port", backlog=64)
    async with trio.open_nursery() as nursery:
        boundary = Boundary(nursery)
        # Case 9 sends messages of 16 MiB, case 10 frames of 64 KiB.
        outbox = OutboxPolicy(100_000, 64 * _MIB, boundary.start_soon, OutboxPeaks())
        host = TransportHost(boundary, outbox, 16 * _MIB, close_timeout=2.0)

        async def echo(stream: TcpStream) -> None:
            try:
                opened = await ACCEPTERS[transport](stream, host, accept_anything)
                if opened is not None:
                    send = opened.sender()
                    while True:
                        frame = frame_of(await opened.receive())
                        send(frame, (frame,))
            except TransportClosedError:
                pass
            finally:
                await trio.aclose_forcefully(stream)

        print(address(listening)[1], flush=True)
        await accept_connections(listening, echo, nursery)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
