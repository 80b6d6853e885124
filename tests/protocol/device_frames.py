"""Frames as a device sends them, and what a reader makes of them."""

from collections.abc import Iterable, Iterator

from localful_ws.protocol import (
    BinaryReceived,
    CloseCode,
    CloseReceived,
    FrameReader,
    Malformed,
    PartReceived,
    PongReceived,
    Received,
)

BINARY_END, PART, PONG_COME = BinaryReceived(), PartReceived(), PongReceived()
PROTOCOL_ERROR = Malformed(CloseCode.PROTOCOL_ERROR)
INVALID_TEXT = Malformed(CloseCode.INVALID_TEXT)
MESSAGE_TOO_BIG = Malformed(CloseCode.MESSAGE_TOO_BIG)
ENDS = (CloseReceived, Malformed)

FINAL = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"
NO_LIMIT = 1 << 62


def head(first: int, size: int, mask: bytes = MASK) -> bytes:
    """What stands before a payload of ``size`` bytes, with a length as short as can be."""
    if size < 126:
        return bytes((first, 0x80 | size)) + mask
    if size < 65536:
        return bytes((first, 0x80 | 126)) + size.to_bytes(2) + mask
    return bytes((first, 0x80 | 127)) + size.to_bytes(8) + mask


def frame(first: int, payload: bytes = b"", mask: bytes = MASK) -> bytes:
    """A device's frame; ``first`` is its first byte."""
    return head(first, len(payload), mask) + bytes(
        byte ^ mask[index % 4] for index, byte in enumerate(payload)
    )


def text(payload: str) -> bytes:
    """A text message in one frame."""
    return frame(FINAL | TEXT, payload.encode())


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(FINAL | CLOSE, code.to_bytes(2) + reason)


STANDS: dict[str, bytes] = {
    "between messages": b"",
    "within a text": frame(TEXT, b"a"),
    "within a binary": frame(BINARY, b"a"),
}
"""Where a reader can stand between two frames, and what brings it there."""


def unfinished(payload: bytes, first: int = FINAL | TEXT) -> bytes:
    """What has come of a frame of a hundred bytes."""
    return head(first, 100) + frame(first, payload)[len(head(first, 0)) :]


def pieces(data: bytes, size: int) -> list[bytes]:
    """``data`` in pieces of ``size`` bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def values(reader: FrameReader) -> Iterator[Received]:
    """What is to be had of a reader before it needs more bytes."""
    for _ in range(reader.buffered + 1):
        if (received := reader.next()) is None:
            return
        yield received
    raise AssertionError("there are more values than bytes")


def begun(data: bytes, max_message_bytes: int = NO_LIMIT) -> FrameReader:
    """A reader that has read ``data``."""
    reader = FrameReader(max_message_bytes)
    reader.receive(data)
    assert not any(isinstance(value, ENDS) for value in values(reader))
    return reader


def read(data: Iterable[bytes], max_message_bytes: int = NO_LIMIT) -> list[Received]:
    """What a reader makes of all that comes."""
    reader = FrameReader(max_message_bytes)
    received = list[Received]()
    for piece in data:
        reader.receive(piece)
        received += values(reader)
    return received


def read_with_many(data: Iterable[bytes], max_message_bytes: int = NO_LIMIT) -> list[Received]:
    """The same with a new reader wherever the one before is idle."""
    reader = FrameReader(max_message_bytes)
    received = list[Received]()
    for piece in data:
        if reader.idle:
            reader = FrameReader(max_message_bytes)
        reader.receive(piece)
        received += values(reader)
    return received
