"""The floor of connecting: bare Trio TCP, which accepts, reads one line, answers it, and waits.

No WebSocket, no token: what a connection costs on Trio before anything is done with it.
"""

import json
import sys

import trio

BACKLOG = 4096


async def handle(stream: trio.SocketStream) -> None:
    """Answer the first line, then wait until the device leaves."""
    try:
        async with stream:
            line = bytearray()
            while not line.endswith(b"\n"):
                chunk = await stream.receive_some(65536)
                if not chunk:
                    return
                line += chunk
            await stream.send_all(line)
            while await stream.receive_some(65536):
                pass
    except trio.BrokenResourceError:
        return


async def main() -> None:
    """Serve until it is killed."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=BACKLOG)
    port = listeners[0].socket.getsockname()[1]
    for name in ("websocket", "internal"):
        line = {"event": "listening", "listener": name, "host": "127.0.0.1", "port": port}
        sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
    await trio.serve_listeners(handle, listeners)


if __name__ == "__main__":
    trio.run(main)
