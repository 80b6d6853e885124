"""A device's frames, byte by byte (RFC 6455; the sections named are its own)."""

from codecs import getincrementaldecoder

import pytest

from localful_ws.protocol import CloseReceived, Malformed, PingReceived, Received, TextReceived
from tests.protocol.device_frames import (
    BINARY,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    FINAL,
    INVALID_TEXT,
    MASK,
    MESSAGE_TOO_BIG,
    PART,
    PING,
    PONG,
    PONG_COME,
    PROTOCOL_ERROR,
    STANDS,
    TEXT,
    begun,
    close,
    frame,
    head,
    pieces,
    read,
    read_with_many,
    text,
    unfinished,
)

WHOLE = {
    "5.7, a masked text": (bytes.fromhex("818537fa213d7f9f4d5158"), [TextReceived("Hello")]),
    "5.7, a masked pong": (bytes.fromhex("8a8537fa213d7f9f4d5158"), [PONG_COME]),
    "5.7, a fragmented text": (
        frame(TEXT, b"Hel") + frame(FINAL | CONTINUATION, b"lo"),
        [PART, TextReceived("Hello")],
    ),
    "an empty text": (text(""), [TextReceived("")]),
    "a text of several bytes a character": (text("é€😀"), [TextReceived("é€😀")]),
    "a byte order mark is kept": (text("\ufeffa"), [TextReceived("\ufeffa")]),
    "null characters": (text("\0\0"), [TextReceived("\0\0")]),
    "a binary": (frame(FINAL | BINARY, b"\xff\xfe"), [BINARY_END]),
    "an empty binary": (frame(FINAL | BINARY), [BINARY_END]),
    "5.4, a binary in three": (
        frame(BINARY, b"\xff") + frame(CONTINUATION, b"\xc3") + frame(FINAL | CONTINUATION, b"\xff"),
        [PART, PART, BINARY_END],
    ),
    "5.4, fragments without content": (
        frame(TEXT) + frame(CONTINUATION) * 3 + frame(FINAL | CONTINUATION),
        [PART, PART, PART, PART, TextReceived("")],
    ),
    "5.4, control frames within a message": (
        frame(TEXT, b"a") + frame(FINAL | PING, b"p") + frame(CONTINUATION, b"b") + frame(FINAL | PONG)
        # whatever is in them, since it's no part of the text
        + frame(FINAL | PING, b"\xff") + frame(FINAL | CONTINUATION, b"c"),
        [PART, PingReceived(b"p"), PART, PONG_COME, PingReceived(b"\xff"), TextReceived("abc")],
    ),
    "5.4, control frames within a binary": (
        frame(BINARY) + frame(FINAL | PING, b"p") + frame(FINAL | CONTINUATION) + text("a"),
        [PART, PingReceived(b"p"), BINARY_END, TextReceived("a")],
    ),
    "5.4, a character in two frames": (
        frame(TEXT, b"a\xc3") + frame(FINAL | PING, b"") + frame(FINAL | CONTINUATION, b"\xa9b"),
        [PART, PingReceived(b""), TextReceived("aéb")],
    ),
    "5.4, a character in four frames": (
        frame(TEXT, b"\xf0") + frame(CONTINUATION, b"\x9f") + frame(CONTINUATION, b"\x98")
        + frame(FINAL | CONTINUATION, b"\x80"),
        [PART, PART, PART, TextReceived("😀")],
    ),
    "messages in a row": (
        text("a") + frame(TEXT, b"b") + frame(FINAL | CONTINUATION, b"c") + frame(FINAL | BINARY) + text("d"),
        [TextReceived("a"), PART, TextReceived("bc"), BINARY_END, TextReceived("d")],
    ),
    "5.5.2, an empty ping": (frame(FINAL | PING), [PingReceived(b"")]),
    "5.5.2, the longest ping": (frame(FINAL | PING, b"x" * 125), [PingReceived(b"x" * 125)]),
    "5.5.3, the longest pong": (frame(FINAL | PONG, b"x" * 125), [PONG_COME]),
    "5.5.1, a close without a code": (frame(FINAL | CLOSE), [CloseReceived(None, "")]),
    "5.5.1, a close without a reason": (close(1000), [CloseReceived(1000, "")]),
    "5.5.1, a close with a reason": (close(4000, "tschüß".encode()), [CloseReceived(4000, "tschüß")]),
    "5.5.1, the longest close": (close(1000, b"x" * 123), [CloseReceived(1000, "x" * 123)]),
    "5.5.1, a close within a message": (frame(TEXT, b"\xc3") + close(1001), [PART, CloseReceived(1001, "")]),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("data", "expected"), WHOLE.values(), ids=WHOLE)
def test_well_formed(data: bytes, expected: list[Received], size: int) -> None:
    assert read(pieces(data, size)) == expected
    assert read_with_many(pieces(data, size)) == expected


@pytest.mark.parametrize("size", [0, 1, 2, 124, 125, 126, 127, 255, 256, 65535, 65536, 65537])
@pytest.mark.parametrize("kind", [TEXT, BINARY])
def test_every_form_of_a_length(kind: int, size: int) -> None:
    expected = TextReceived("x" * size) if kind == TEXT else BINARY_END
    data = frame(FINAL | kind, b"x" * size) + text("next")
    assert read([data]) == read(pieces(data, 4096)) == [expected, TextReceived("next")]


def test_the_longest_length_of_all_only_waits() -> None:
    reader = begun(head(FINAL | TEXT, (1 << 63) - 1), (1 << 63) - 1)
    assert reader.next() is None
    assert not reader.idle


@pytest.mark.parametrize("size", range(10))
def test_every_byte_has_its_part_of_the_mask(size: int) -> None:
    payload = bytes(range(0x30, 0x30 + size))
    mask = b"\x01\x02\x04\x08"
    for first, expected in [
        (FINAL | TEXT, TextReceived(payload.decode())),
        (FINAL | PING, PingReceived(payload)),
    ]:
        data = frame(first, payload, mask)
        for cut in range(len(data) + 1):
            assert read([data[:cut], data[cut:]]) == [expected]
        assert read(pieces(data, 3)) == [expected]


def test_a_mask_of_zeros_is_one() -> None:
    assert read([b"\x81\x82\0\0\0\0hi"]) == [TextReceived("hi")]


def test_values_without_content_are_the_same_objects() -> None:
    data = (frame(BINARY) + frame(FINAL | CONTINUATION) + frame(FINAL | PONG)) * 2
    first, second = read([data])[:3], read([data])[3:]
    assert all(one is other for one, other in zip(first, second, strict=True))


# Each ends with the byte at which it is refused.
REFUSED: dict[str, tuple[bytes, list[Received], Malformed]] = {
    "5.1, an unmasked text": (b"\x81\x05", [], PROTOCOL_ERROR),
    "5.1, an unmasked text without content": (b"\x81\x00", [], PROTOCOL_ERROR),
    "5.1, an unmasked long text": (b"\x81\x7f", [], PROTOCOL_ERROR),
    "5.1, an unmasked ping": (b"\x89\x00", [], PROTOCOL_ERROR),
    "5.1, an unmasked close": (b"\x88\x00", [], PROTOCOL_ERROR),
    "5.1, an unmasked fragment": (frame(TEXT) + b"\x80\x00", [PART], PROTOCOL_ERROR),
    "5.2, reserved bit 1": (b"\xc1\x80", [], PROTOCOL_ERROR),
    "5.2, reserved bit 2": (b"\xa1\x80", [], PROTOCOL_ERROR),
    "5.2, reserved bit 3": (b"\x91\x80", [], PROTOCOL_ERROR),
    "5.2, reserved bits in a ping": (b"\xf9\x80", [], PROTOCOL_ERROR),
    "5.2, an opcode that is not defined": (text("a") + b"\x83\x80", [TextReceived("a")], PROTOCOL_ERROR),
    "5.2, a control opcode that is not defined": (b"\x8b\x80", [], PROTOCOL_ERROR),
    "5.2, two bytes of length for 0": (b"\x81\xfe\x00\x00" + MASK, [], PROTOCOL_ERROR),
    "5.2, two bytes of length for 125": (b"\x82\xfe\x00\x7d" + MASK, [], PROTOCOL_ERROR),
    "5.2, eight bytes of length for 0": (b"\x81\xff" + bytes(8) + MASK, [], PROTOCOL_ERROR),
    "5.2, eight bytes of length for 126": (b"\x81\xff" + (126).to_bytes(8) + MASK, [], PROTOCOL_ERROR),
    "5.2, eight bytes of length for 65535": (b"\x82\xff" + (65535).to_bytes(8) + MASK, [], PROTOCOL_ERROR),
    "5.2, a length with the top bit": (b"\x81\xff" + (1 << 63).to_bytes(8) + MASK, [], PROTOCOL_ERROR),
    "5.2, the greatest number": (b"\x81\xff" + b"\xff" * 8 + MASK, [], PROTOCOL_ERROR),
    "5.4, a continuation of nothing": (b"\x80\x80", [], PROTOCOL_ERROR),
    "5.4, a part that continues nothing": (b"\x00\x80", [], PROTOCOL_ERROR),
    "5.4, a continuation of what has ended": (
        frame(TEXT) + frame(FINAL | CONTINUATION) + b"\x80\x80",
        [PART, TextReceived("")],
        PROTOCOL_ERROR,
    ),
    "5.4, a continuation of a message in one frame": (
        text("a") + b"\x80\x80",
        [TextReceived("a")],
        PROTOCOL_ERROR,
    ),
    "5.4, a text within a text": (frame(TEXT) + b"\x81\x80", [PART], PROTOCOL_ERROR),
    "5.4, a part of another text": (frame(TEXT) + b"\x01\x80", [PART], PROTOCOL_ERROR),
    "5.4, a binary within a text": (frame(TEXT) + b"\x82\x80", [PART], PROTOCOL_ERROR),
    "5.4, a text within a binary": (frame(BINARY) + b"\x81\x80", [PART], PROTOCOL_ERROR),
    "5.4, a text after a control frame within a text": (
        frame(TEXT) + frame(FINAL | PONG) + b"\x81\x80",
        [PART, PONG_COME],
        PROTOCOL_ERROR,
    ),
    "5.5, part of a close": (b"\x08\x80", [], PROTOCOL_ERROR),
    "5.5, part of a ping": (b"\x09\x80", [], PROTOCOL_ERROR),
    "5.5, part of a pong within a text": (frame(TEXT) + b"\x0a\x80", [PART], PROTOCOL_ERROR),
    "5.5, a close over 125 bytes": (b"\x88\xfe", [], PROTOCOL_ERROR),
    "5.5, a ping over 125 bytes": (b"\x89\xfe", [], PROTOCOL_ERROR),
    "5.5, a pong over 65535 bytes": (b"\x8a\xff", [], PROTOCOL_ERROR),
    "5.5.1, a close with half a code": (frame(FINAL | CLOSE, b"\x03"), [], PROTOCOL_ERROR),
    "5.5.1, a close with half a code that would be a whole one": (
        frame(FINAL | CLOSE, b"\xff"),
        [],
        PROTOCOL_ERROR,
    ),
    "5.5.1, a close with a reason that is not UTF-8": (close(1000, b"ab\xff"), [], INVALID_TEXT),
    "5.5.1, a close with half a character": (close(1000, b"\xe2\x82"), [], INVALID_TEXT),
    "7.4, a code before the reason": (close(1005, b"\xff"), [], PROTOCOL_ERROR),
    "8.1, a text that is not UTF-8": (frame(FINAL | TEXT, b"\xff"), [], INVALID_TEXT),
    "8.1, half a character": (frame(FINAL | TEXT, b"a\xe2\x82"), [], INVALID_TEXT),
    "8.1, half a character in fragments": (
        frame(TEXT, b"a\xe2") + frame(FINAL | CONTINUATION, b"\x82"),
        [PART],
        INVALID_TEXT,
    ),
    "8.1, half a character and an empty fragment": (
        frame(TEXT, b"\xc3") + frame(FINAL | CONTINUATION),
        [PART],
        INVALID_TEXT,
    ),
    "8.1, half a character, then another": (
        frame(TEXT, b"\xc3") + unfinished(b"\xc3", CONTINUATION),
        [PART],
        INVALID_TEXT,
    ),
    "8.1, in the last fragment": (
        frame(TEXT, b"a") + unfinished(b"b\x80", FINAL | CONTINUATION),
        [PART],
        INVALID_TEXT,
    ),
    "8.1, in a part": (unfinished(b"abc\x80", TEXT), [], INVALID_TEXT),
    "8.1, after a text that is": (
        text("é") + unfinished(b"\xff"),
        [TextReceived("é")],
        INVALID_TEXT,
    ),
    "8.1, after a fragmented text that is": (
        frame(TEXT, b"ab") + frame(FINAL | CONTINUATION, b"c") + unfinished(b"\xff"),
        [PART, TextReceived("abc")],
        INVALID_TEXT,
    ),
    "10.4, longer than the reader takes": (head(FINAL | TEXT, 1001), [], MESSAGE_TOO_BIG),
    "10.4, far longer": (head(FINAL | BINARY, 1 << 62), [], MESSAGE_TOO_BIG),
    "10.4, with the fragments before": (
        frame(TEXT, b"x" * 500) + frame(CONTINUATION, b"x" * 499) + head(FINAL | CONTINUATION, 2),
        [PART, PART],
        MESSAGE_TOO_BIG,
    ),
    "10.4, a binary with the fragments before": (
        frame(BINARY, b"\xff" * 1000) + frame(CONTINUATION) + head(CONTINUATION, 1),
        [PART, PART],
        MESSAGE_TOO_BIG,
    ),
    "10.4, in bytes, not in characters": (
        frame(TEXT, "é".encode() * 500) + head(CONTINUATION, 1),
        [PART],
        MESSAGE_TOO_BIG,
    ),
}


@pytest.mark.parametrize(("data", "before", "refusal"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, before: list[Received], refusal: Malformed) -> None:
    assert read(pieces(data[:-1], 1), 1000) == before
    for size in (1, 2, 3, 1000):
        assert read(pieces(data, size), 1000) == [*before, refusal]
    assert read([data + text("a")], 1000) == [*before, refusal]


@pytest.mark.parametrize(
    ("prefix", "opcodes"),
    [
        (STANDS["between messages"], {TEXT, BINARY}),
        (STANDS["within a text"], {CONTINUATION}),
        (STANDS["within a binary"], {CONTINUATION}),
    ],
    ids=STANDS,
)
def test_every_first_byte(prefix: bytes, opcodes: set[int]) -> None:
    """Sections 5.2 (reserved bits, opcodes), 5.4 (what may follow) and 5.5 (control frames)."""
    allowed = opcodes | {FINAL | opcode for opcode in opcodes | {CLOSE, PING, PONG}}
    for first in range(256):
        reader = begun(prefix)
        reader.receive(bytes((first, 0x80)))
        assert reader.next() == (None if first in allowed else PROTOCOL_ERROR)
        reader.receive(MASK)
        assert (reader.next() is not None) == (first in allowed)


def test_every_close_code() -> None:
    """Section 7.4, and 1012 and 1013 of IANA's registry."""
    good = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, *range(3000, 5000)}
    for code in range(65536):
        expected = CloseReceived(code, "") if code in good else PROTOCOL_ERROR
        assert read([close(code)]) == [expected]


UTF_8 = [bytes((byte,)) for byte in bytes.fromhex("617f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f4f5ff")]
"""Bytes at the bounds of what UTF-8 allows after each other (RFC 3629, section 4)."""


@pytest.mark.parametrize("first", UTF_8, ids=bytes.hex)
def test_text_is_refused_at_the_first_byte_that_is_not_utf_8(first: bytes) -> None:
    for second in UTF_8:
        for third in (b"\x7f", b"\x80", b"\xbf", b"\xc0"):
            payload = first + second + third
            decoder = getincrementaldecoder("utf-8")()
            good = 0
            try:
                for good in range(len(payload)):
                    decoder.decode(payload[good : good + 1])
                refused = False
            except UnicodeDecodeError:
                refused = True
            data = unfinished(payload)
            assert read(pieces(data, 1)) == read([data]) == [INVALID_TEXT] * refused
            assert read([data[: len(head(0, 100)) + good]]) == []
            fragments = frame(TEXT, first) + frame(CONTINUATION, second) + frame(CONTINUATION, third)
            expected = [PART] * good + [INVALID_TEXT] if refused else [PART] * 3
            assert read([fragments]) == expected


@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 1000, 65535, 65536])
def test_a_message_may_be_as_long_as_the_reader_takes_and_no_longer(size: int) -> None:
    payload = b"x" * size
    for parts in (
        [frame(FINAL | TEXT, payload)],
        [frame(TEXT, payload), frame(FINAL | CONTINUATION)],
        [frame(TEXT), frame(CONTINUATION, payload), frame(FINAL | CONTINUATION)],
        [frame(TEXT, payload[1:]), frame(FINAL | CONTINUATION, payload[:1])],
    ):
        expected = [PART] * (len(parts) - 1) + [TextReceived("x" * size)]
        # Twice, since the next message begins with nothing.
        assert read([b"".join(parts * 2)], size) == expected * 2
        if size:
            assert read(parts, size - 1)[-1] == MESSAGE_TOO_BIG


def test_binary_messages_begin_at_nothing_too() -> None:
    data = (
        frame(BINARY, b"x" * 60) + frame(FINAL | CONTINUATION, b"x" * 40) + frame(FINAL | BINARY, b"x" * 100)
    )
    assert read([data * 2], 100) == [PART, BINARY_END, BINARY_END] * 2


def test_control_frames_do_not_count() -> None:
    data = frame(TEXT, b"x" * 10) + frame(FINAL | PING, b"x" * 125) + frame(FINAL | CONTINUATION)
    assert read([data], 10) == [PART, PingReceived(b"x" * 125), TextReceived("x" * 10)]


def test_a_message_too_big_is_refused_before_its_payload_is_looked_at() -> None:
    assert read([frame(FINAL | TEXT, b"\xff" * 11)], 10) == [MESSAGE_TOO_BIG]
