"""WebSocket frames from a device's side (RFC 6455, section 5), and the handshake; as cheap as can be."""

import json
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def handshake(headers: str = "", path: str = "/v1/sync") -> bytes:
    """An opening handshake."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    ).encode()


def frame(opcode: int, payload: bytes = b"", mask: bytes = b"\0\0\0\0", *, final: bool = True) -> bytes:
    """A frame from a device."""
    size = len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8)
    if mask != b"\0\0\0\0":
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        payload = (int.from_bytes(payload) ^ key).to_bytes(size)
    return head + mask + payload


def message(content: dict[str, Any], mask: bytes = b"\0\0\0\0") -> bytes:
    """A message from a device."""
    return frame(TEXT, json.dumps(content).encode(), mask)


class ServerBytes:
    """Reads what a server sends: an HTTP response, then frames.

    Attributes:
        response: The status and the headers, once they have come.
    """

    __slots__ = ("_buffer", "response")

    def __init__(self) -> None:
        self._buffer = b""
        self.response: bytes | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes; the frames that are now complete, as opcode and payload."""
        buffer = self._buffer + data if self._buffer else data
        if self.response is None:
            head, end, rest = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = buffer
                return []
            self.response, buffer = head, rest
        if self.status != 101:
            self._buffer = buffer
            return []
        frames = []
        place, end_of_all = 0, len(buffer)
        while end_of_all - place >= 2:
            first, size = buffer[place], buffer[place + 1]
            start = place + 2
            if size == 126:
                start += 2
                size = int.from_bytes(buffer[place + 2 : start])
            elif size == 127:
                start += 8
                size = int.from_bytes(buffer[place + 2 : start])
            if start + size > end_of_all:
                break
            if first & 0xF0 != 0x80:
                raise ValueError(f"a frame of a server that begins with {first:#x}")
            frames.append((first & 0xF, buffer[start : start + size]))
            place = start + size
        self._buffer = buffer[place:]
        return frames

    @property
    def status(self) -> int:
        """The status of the response; 0 before it came."""
        return 0 if self.response is None else int(self.response[9:12])

    @property
    def body(self) -> bytes:
        """What came of the body of a refusal."""
        return self._buffer
