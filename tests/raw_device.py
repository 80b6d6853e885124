"""A device that speaks WebSocket by hand, and so can do what no library would."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from attrs import Factory, define, field, frozen

from tests.redis_world import settle

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def handshake(*headers: str, path: str = "/v1/sync") -> bytes:
    """A request to upgrade, with more headers."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    mask: bytes | None = b"\x11\x22\x33\x44",
    announced: int | None = None,
) -> bytes:
    """A device's frame, right or wrong.

    Args:
        opcode: What it is.
        payload: What is in it.
        final: Whether it ends a message.
        reserved: The three reserved bits.
        mask: The masking key; None leaves the payload bare.
        announced: A length to announce in place of the payload's.
    """
    size = len(payload) if announced is None else announced
    masked = 0 if mask is None else 0x80
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += bytes([masked | 126]) + size.to_bytes(2)
    else:
        head += bytes([masked | 127]) + size.to_bytes(8)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def text(message: object) -> bytes:
    """A text message: text as it is, anything else as JSON."""
    return frame(TEXT, (message if isinstance(message, str) else json.dumps(message)).encode())


def close(code: int = 1000, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2) + reason)


@frozen
class ServerFrame:
    """A frame from the server."""

    opcode: int
    payload: bytes


def parse_frames(data: bytes) -> tuple[list[ServerFrame], bytes]:
    """Cut what a server sent into frames, which must be unmasked and final; and what is left over."""
    frames, at = [], 0
    while len(data) >= at + 2:
        assert data[at] & 0xF0 == 0x80, f"{data[at]:#x} does not begin a frame of ours"
        size, start = data[at + 1], at + 2
        if size in (126, 127):
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start])
        assert size < 1 << 32
        if len(data) < start + size:
            break
        frames.append(ServerFrame(data[at] & 0xF, data[start : start + size]))
        at = start + size
    return frames, data[at:]


@define(eq=False)
class RawDevice:
    """The device's end of a connection, and what came out of it.

    Attributes:
        received: All bytes so far.
        ended_at: When the connection ended, in seconds since the world began.
    """

    stream: trio.abc.Stream
    now: Callable[[], float]
    received: bytearray = Factory(bytearray)
    ended_at: float | None = None
    ended: trio.Event = field(factory=trio.Event)

    async def read(self) -> None:
        """Collect what comes until the end."""
        try:
            while data := await self.stream.receive_some(65536):
                self.received += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.ended_at = self.now()
        self.ended.set()

    async def send(self, *data: bytes) -> None:
        """Send bytes. If the server has closed they are lost, as on a socket."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(b"".join(data))

    async def say(self, *data: bytes) -> None:
        """Send bytes and let everything that follows from it happen."""
        await self.send(*data)
        await settle()

    @property
    def status(self) -> int | None:
        """The HTTP status of the answer to the handshake; None if there is none yet."""
        return int(self.received.split(b" ", 2)[1]) if b"\r\n\r\n" in self.received else None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, names in lower case."""
        lines = self.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> Any:
        """The JSON body of the answer."""
        return json.loads(self.received.partition(b"\r\n\r\n")[2])

    @property
    def frames(self) -> list[ServerFrame]:
        """The frames that came after the handshake; half a frame at the end is none."""
        return parse_frames(bytes(self.received.partition(b"\r\n\r\n")[2]))[0]

    @property
    def leftover(self) -> bytes:
        """What came after the last whole frame."""
        return parse_frames(bytes(self.received.partition(b"\r\n\r\n")[2]))[1]

    @property
    def messages(self) -> list[Any]:
        """The messages that came."""
        return [json.loads(each.payload) for each in self.frames if each.opcode == TEXT]

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason of the server's close frame."""
        frames = self.frames
        assert CLOSE not in [each.opcode for each in frames[:-1]], "something came after a close frame"
        if not frames or frames[-1].opcode != CLOSE:
            return None
        payload = frames[-1].payload
        return int.from_bytes(payload[:2]), payload[2:].decode()

    def pongs(self) -> list[bytes]:
        """The payloads of the pongs that came."""
        return [each.payload for each in self.frames if each.opcode == PONG]
