"""The floor of fan-out: a plain loop of non-blocking sends to every socket, and nothing else.

It answers the upgrade and a publisher's POST, so that the same client drives it. There is no token, no
routing and no buffering: an event is framed once and `send` is called on each socket.
"""

import base64
import hashlib
import json
import select
import signal
import socket
import sys
from types import FrameType
from typing import Any, NoReturn

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BACKLOG = 4096


def frame(payload: bytes) -> bytes:
    """An unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class Floor:
    """Every device and the publisher, in one epoll loop."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.devices_listener = self.listen("websocket")
        self.internal_listener = self.listen("internal")
        self.upgrading: dict[int, socket.socket] = {}
        self.devices: dict[int, socket.socket] = {}
        self.publishers: dict[int, tuple[socket.socket, bytearray]] = {}

    def listen(self, name: str) -> socket.socket:
        """Open a listener and say where."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        listener.settimeout(0)
        self.epoll.register(listener, select.EPOLLIN)
        line = {
            "event": "listening",
            "listener": name,
            "host": "127.0.0.1",
            "port": listener.getsockname()[1],
        }
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
        return listener

    def run(self) -> NoReturn:
        """Serve until SIGTERM."""
        while True:
            for fd, _mask in self.epoll.poll():
                if fd == self.devices_listener.fileno():
                    self.accept(self.devices_listener)
                elif fd == self.internal_listener.fileno():
                    self.accept(self.internal_listener)
                elif fd in self.upgrading:
                    self.upgrade(fd)
                elif fd in self.publishers:
                    self.publisher(fd)
                else:
                    self.device(fd)

    def accept(self, listener: socket.socket) -> None:
        """Take everybody who waits."""
        while True:
            try:
                sock, _address = listener.accept()
            except BlockingIOError:
                return
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.epoll.register(sock, select.EPOLLIN)
            if listener is self.devices_listener:
                self.upgrading[sock.fileno()] = sock
            else:
                self.publishers[sock.fileno()] = (sock, bytearray())

    def upgrade(self, fd: int) -> None:
        """Answer the opening handshake; the client sends it in one piece."""
        sock = self.upgrading.pop(fd)
        head = sock.recv(65536)
        key = next(
            (
                line.split(b":", 1)[1].strip()
                for line in head.split(b"\r\n")
                if b"sec-websocket-key" in line.lower()
            ),
            None,
        )
        if key is None:
            sock.close()
            return
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        sock.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.devices[fd] = sock

    def device(self, fd: int) -> None:
        """A device says nothing that matters here; it may leave."""
        try:
            gone = not self.devices[fd].recv(65536)
        except OSError:
            gone = True
        if gone:
            self.devices.pop(fd).close()

    def publisher(self, fd: int) -> None:
        """Read a request, tell everybody, answer."""
        sock, buffer = self.publishers[fd]
        try:
            chunk = sock.recv(1 << 20)
        except OSError:
            chunk = b""
        if not chunk:
            sock.close()
            del self.publishers[fd]
            return
        buffer += chunk
        head, separator, body = bytes(buffer).partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        if len(body) < length:
            return
        buffer.clear()
        self.publish(json.loads(body))
        sock.send(b'HTTP/1.1 202 Accepted\r\nContent-Length: 14\r\n\r\n{"accepted":1}')

    def publish(self, body: dict[str, Any]) -> None:
        """The loop that is measured."""
        devices = list(self.devices.values())
        for event in body.get("events", [body]):
            message = {"event": event["event"], "vault": event["vault"], "data": event["data"]}
            bytes_ = frame(json.dumps(message, separators=(",", ":")).encode())
            for sock in devices:
                sock.send(bytes_)


def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Leave at once."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    Floor().run()
