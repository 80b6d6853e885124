"""Server frames as bytes (RFC 6455, section 5.2): unmasked, uncompressed, so one serves every device."""

import struct

_TEXT = 0x81
_CLOSE = 0x88
_PING = 0x89
_PONG = 0x8A
# A text frame whose length takes 16 or 64 bits.
_TEXT_16 = bytes((_TEXT, 126))
_TEXT_64 = bytes((_TEXT, 127))


def text_frame(payload: bytes) -> bytes:
    """Frame UTF-8 text as one final, unmasked text frame.

    Args:
        payload: The text in UTF-8, of any length.
    """
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 65536:
        return b"%b%b%b" % (_TEXT_16, size.to_bytes(2), payload)
    return b"%b%b%b" % (_TEXT_64, size.to_bytes(8), payload)


def ping_frame(payload: bytes = b"") -> bytes:
    """Frame a ping; ``payload`` has at most 125 bytes.

    Raises:
        ValueError: If the payload is longer.
    """
    return _control_frame(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """Frame the answer to a ping with that ping's payload, at most 125 bytes.

    Raises:
        ValueError: If the payload is longer.
    """
    return _control_frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """Frame a close with its code and reason (at most 123 bytes of UTF-8).

    Raises:
        ValueError: If the reason is longer.
    """
    return _control_frame(_CLOSE, struct.pack("!H", code) + reason.encode())


def _control_frame(opcode: int, payload: bytes) -> bytes:
    if len(payload) > 125:
        raise ValueError("A control frame carries at most 125 bytes.")
    return struct.pack("!BB", opcode, len(payload)) + payload
