"""As much of RFC 6455 as a client needs that counts whole frames and trusts nothing else."""

import base64
import hashlib
import secrets

from benchmarks.model import BenchmarkError

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

KEY = base64.b64encode(secrets.token_bytes(16))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def upgrade_request(port: int, path: str, *, subprotocol: bool) -> bytes:
    """The opening handshake."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocol:
        lines.append("Sec-WebSocket-Protocol: localful.v1")
    return "\r\n".join([*lines, "", ""]).encode()


def check_upgrade(head: bytes) -> None:
    """Raise unless this is the right answer to `upgrade_request`."""
    status, *lines = head.split(b"\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _colon, value in (ln.partition(b":") for ln in lines)
    }
    if status.split(b" ")[1:2] != [b"101"]:
        raise BenchmarkError(f"the upgrade was refused: {status.decode(errors='replace')}")
    if headers.get(b"sec-websocket-accept") != ACCEPT:
        raise BenchmarkError("Sec-WebSocket-Accept is missing or wrong")
    if b"sec-websocket-extensions" in headers:
        raise BenchmarkError("the server selected an extension that nobody offered")


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A whole masked frame."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    mask = secrets.token_bytes(4)
    stream = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "little") ^ int.from_bytes(stream, "little")
    return head + mask + masked.to_bytes(size, "little")


def read_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Cut whole server frames off the front of `data`.

    Returns:
        The frames as opcode and payload, and the bytes of the frame that isn't whole yet.

    Raises:
        BenchmarkError: A frame is fragmented, masked or uses a reserved bit; no server here may do that.
    """
    frames: list[tuple[int, bytes]] = []
    start, end = 0, len(data)
    while end - start >= 2:
        first, size = data[start], data[start + 1]
        if first & 0xF0 != 0x80 or size & 0x80:
            raise BenchmarkError(f"not a whole, unmasked, uncompressed frame: {data[start : start + 16]!r}")
        body = start + 2
        if size >= 126:
            body += 2 if size == 126 else 8
            if end < body:
                break
            size = int.from_bytes(data[start + 2 : body], "big")
        if end < body + size:
            break
        frames.append((first & 0x0F, data[body : body + size]))
        start = body + size
    return frames, data[start:]
