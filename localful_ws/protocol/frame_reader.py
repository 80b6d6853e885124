"""A device's frames, read as they come (RFC 6455, section 5), for a server that negotiates no extension.

`FrameReader` is given bytes, however they were split, and makes one value of each frame.
"""

from codecs import utf_8_decode
from enum import Enum
from typing import TypeAlias

from attrs import frozen

from localful_ws.protocol.close_codes import CloseCode


@frozen
class TextReceived:
    """The frame that ends a text message, and the whole text."""

    text: str


@frozen
class BinaryReceived:
    """The frame that ends a binary message; what it says is not kept, since this protocol has none."""


@frozen
class PartReceived:
    """A frame of a text or binary message that goes on in another."""


@frozen
class PingReceived:
    """A ping, to be answered with the same payload of at most 125 bytes."""

    payload: bytes


@frozen
class PongReceived:
    """A pong, whether it was asked for or not."""


@frozen
class CloseReceived:
    """The device's close frame; nothing that comes after it is read.

    Attributes:
        code: The code it gives (section 7.4), or None if it gives none.
        reason: The reason it gives, at most 123 bytes of UTF-8.
    """

    code: int | None
    reason: str


@frozen
class Malformed:
    """A frame that can't be or that is too much; nothing that comes after it is read.

    Attributes:
        code: What to close with: ``PROTOCOL_ERROR``, ``INVALID_TEXT`` or ``MESSAGE_TOO_BIG``.
    """

    code: CloseCode


Received: TypeAlias = (
    TextReceived | BinaryReceived | PartReceived | PingReceived | PongReceived | CloseReceived | Malformed
)

_BINARY = BinaryReceived()
_PART = PartReceived()
_PONG = PongReceived()


class _Frame(Enum):
    """What a frame is, whichever opcode says so."""

    LAST_TEXT = "ends a text message"
    TEXT_PART = "part of a text message"
    LAST_BINARY = "ends a binary message"
    BINARY_PART = "part of a binary message"
    PING = "ping"
    PONG = "pong"
    CLOSE = "close"


# Where the reader stands is the table of first bytes that may come there: FIN, three reserved bits and the
# opcode (section 5.2). A control frame may come anywhere, but is not fragmented (section 5.5).
_CONTROL = {0x88: _Frame.CLOSE, 0x89: _Frame.PING, 0x8A: _Frame.PONG}
_WHOLE_TEXT = 0x81
_BETWEEN_MESSAGES = _CONTROL | {
    _WHOLE_TEXT: _Frame.LAST_TEXT,
    0x01: _Frame.TEXT_PART,
    0x82: _Frame.LAST_BINARY,
    0x02: _Frame.BINARY_PART,
}
_WITHIN_TEXT = _CONTROL | {0x80: _Frame.LAST_TEXT, 0x00: _Frame.TEXT_PART}
_WITHIN_BINARY = _CONTROL | {0x80: _Frame.LAST_BINARY, 0x00: _Frame.BINARY_PART}
_AT_THE_END: dict[int, _Frame] = {}

# Found once: this is done several times a frame.
_number = int.from_bytes

_MASKED = 0x80
"""The top bit of the second byte; the others are the length, if it is short."""
_MAX_SHORT = 125
"""The greatest length that the second byte says itself, and so the longest control frame."""
_HEAD_BYTES = (6,) * (_MAX_SHORT + 1) + (8, 14)
"""How long the head is, mask included, by what the second byte says: 126 and 127 announce a longer length."""

# Section 7.4.1 without those that no frame may carry; 1012 and 1013, which were registered later (so was
# 1014, but for gateways); and section 7.4.2.
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1014), *range(3000, 5000)})


class _RefusedError(Exception):
    def __init__(self, code: CloseCode) -> None:
        super().__init__()
        self.code = code


class FrameReader:
    """Makes values of the bytes that a device sends after the handshake.

    It keeps no more than one message of the size allowed, and what was given to it since the last frame.

    Args:
        max_message_bytes: The longest message that is read, in bytes of payload over all its frames. The
            frame that makes it longer is `Malformed` as soon as its head has come.
    """

    __slots__ = ("_at", "_checked", "_data", "_expects", "_frame", "_left", "_mask", "_max", "_size", "_text")

    def __init__(self, max_message_bytes: int) -> None:
        self._max = max_message_bytes
        # What has come and is not decoded is `_data` from `_at` on.
        self._data = b""
        self._at = 0
        self._expects = _BETWEEN_MESSAGES
        # The frame of a message whose payload is coming; with it how much is still to come, and its mask.
        self._frame: _Frame | None = None
        self._left: int
        self._mask: bytes
        # The message under way: its size, including all of the frame that is coming; if it is text, what has
        # come of it, in UTF-8, and how much of that was found to be UTF-8.
        self._size = 0
        self._text: bytearray | None = None
        self._checked = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is kept, no part of a frame or message, so that a new reader would go on as well.

        It is never idle again after `CloseReceived` or `Malformed`.
        """
        decoded_all = self._at == len(self._data)
        return decoded_all and self._frame is None and self._expects is _BETWEEN_MESSAGES

    @property
    def buffered(self) -> int:
        """How many bytes were given that `next` has not decoded."""
        return len(self._data) - self._at

    def receive(self, data: bytes) -> None:
        """Take bytes that have come. All are kept until `next` comes to them: give more when it has none."""
        if self._expects is not _AT_THE_END:
            self._data = self._data[self._at :] + data
            self._at = 0

    def next(self) -> Received | None:
        """Decode the next frame.

        Returns:
            Its value: each frame has exactly one. None if more bytes are needed, and for ever after
            `CloseReceived` or `Malformed`.
        """
        try:
            received = self._read_frame() if self._frame is None else self._read_payload(self._frame)
        except _RefusedError as refused:
            return self._end(Malformed(refused.code))
        except UnicodeDecodeError:
            return self._end(Malformed(CloseCode.INVALID_TEXT))
        if received is None:
            self._data = self._data[self._at :]
            self._at = 0
        return received

    def _read_frame(self) -> Received | None:
        """Read a head, and then what has come of the payload."""
        data, at = self._data, self._at
        if len(data) < at + 2:
            return None
        frame = self._expects.get(data[at])
        size = data[at + 1] - _MASKED
        if frame is None or size < 0 or (size > _MAX_SHORT and data[at] in _CONTROL):
            raise _RefusedError(CloseCode.PROTOCOL_ERROR)
        start = at + _HEAD_BYTES[size]
        if len(data) < start:
            return None
        if size > _MAX_SHORT:
            size = _read_length(data[at + 2 : start - 4])
        mask = data[start - 4 : start]
        end = start + size
        if data[at] in _CONTROL:
            if len(data) < end:
                return None
            self._at = end
            return self._read_control(frame, _unmask(data[start:end], mask))
        if self._size + size > self._max:
            raise _RefusedError(CloseCode.MESSAGE_TOO_BIG)
        if data[at] == _WHOLE_TEXT and end <= len(data):
            # Nearly every frame: nothing needs to be kept.
            self._at = end
            return TextReceived(_unmask(data[start:end], mask).decode())
        self._frame, self._left, self._mask = frame, size, mask
        self._size += size
        self._at = start
        return self._read_payload(frame)

    def _read_payload(self, frame: _Frame) -> Received | None:
        """Take what has come of the payload of a message's frame."""
        payload = self._data[self._at : self._at + self._left]
        self._at += len(payload)
        self._left -= len(payload)
        if frame is _Frame.LAST_TEXT or frame is _Frame.TEXT_PART:
            self._take_text(payload)
        if self._left:
            return None
        self._frame = None
        if frame is _Frame.TEXT_PART:
            self._expects = _WITHIN_TEXT
            return _PART
        if frame is _Frame.BINARY_PART:
            self._expects = _WITHIN_BINARY
            return _PART
        self._expects = _BETWEEN_MESSAGES
        text, self._text = self._text, None
        self._size = self._checked = 0
        return _BINARY if text is None else TextReceived(text.decode())

    def _take_text(self, payload: bytes) -> None:
        """Keep what has come of a text; raises UnicodeDecodeError at the first byte that can't be UTF-8's.

        Half a character may be at its end. Whether it stays one is known when the message ends.
        """
        if self._text is None:
            self._text = bytearray()
        self._text += _unmask(payload, self._mask)
        turn = len(payload) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        self._checked += utf_8_decode(self._text[self._checked :])[1]

    def _read_control(self, frame: _Frame, payload: bytes) -> Received:
        """Read a control frame, which may stand within a message (section 5.4) and leaves that alone."""
        if frame is _Frame.PING:
            return PingReceived(payload)
        if frame is _Frame.PONG:
            return _PONG
        return self._end(_read_close(payload))

    def _end(self, received: Received) -> Received:
        """Read nothing any more, and let go of everything."""
        self._expects = _AT_THE_END
        self._frame = self._text = None
        self._data = b""
        self._at = 0
        return received


def _read_length(data: bytes) -> int:
    """Read a length of two or eight bytes: no more than it takes, and the top bit of eight is clear."""
    size = _number(data)
    if size <= (_MAX_SHORT if len(data) == 2 else 0xFFFF) or size >> 63:
        raise _RefusedError(CloseCode.PROTOCOL_ERROR)
    return size


def _read_close(payload: bytes) -> CloseReceived:
    """Read the payload of a close frame (section 5.5.1)."""
    if not payload:
        return CloseReceived(None, "")
    code = _number(payload[:2])
    if len(payload) == 1 or code not in _CLOSE_CODES:
        raise _RefusedError(CloseCode.PROTOCOL_ERROR)
    return CloseReceived(code, payload[2:].decode())


def _unmask(payload: bytes, mask: bytes) -> bytes:
    """Undo the mask (section 5.3), all of it as one number: fastest for what is short, fast for some KiB."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (_number(payload) ^ _number(key)).to_bytes(size)
