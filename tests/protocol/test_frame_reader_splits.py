"""Frames are read the same however they are split, and as another implementation reads them."""

from collections.abc import Iterable
from itertools import islice

from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from localful_ws.protocol import (
    CloseReceived,
    FrameReader,
    PingReceived,
    Received,
    TextReceived,
)
from tests.protocol.device_frames import (
    BINARY,
    BINARY_END,
    CLOSE,
    CONTINUATION,
    ENDS,
    FINAL,
    INVALID_TEXT,
    MESSAGE_TOO_BIG,
    NO_LIMIT,
    PART,
    PING,
    PONG,
    PONG_COME,
    PROTOCOL_ERROR,
    TEXT,
    close,
    frame,
    pieces,
    read,
    read_with_many,
    text,
    values,
)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data``, cut at some places; each is taken modulo its length."""
    ends = [*sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read_haltingly(data: Iterable[bytes], calls: list[int], max_message_bytes: int) -> list[Received]:
    """The same as `read`, by a driver that does not always ask for all the values that are there."""
    reader = FrameReader(max_message_bytes)
    received = list[Received]()
    for index, piece in enumerate(data):
        reader.receive(piece)
        received += islice(values(reader), calls[index % len(calls)])
    return [*received, *values(reader)]


def assert_read(
    data: bytes, places: list[int], calls: list[int], max_message_bytes: int, expected: list[Received]
) -> None:
    """Read it whole, in pieces and byte by byte."""
    assert read([data], max_message_bytes) == expected
    assert read(cut(data, places), max_message_bytes) == expected
    assert read(pieces(data, 1), max_message_bytes) == expected
    assert read_with_many(cut(data, places), max_message_bytes) == expected
    assert read_haltingly(cut(data, places), calls, max_message_bytes) == expected


some_places = st.lists(st.integers(0, 10_000), max_size=12)
some_calls = st.lists(st.integers(0, 4), min_size=1, max_size=8)
masks = st.binary(min_size=4, max_size=4)
controls = st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)), max_size=2)
some_texts = st.text(max_size=40) | st.text("é€😀", max_size=40) | st.sampled_from(["x" * 126, "é" * 200])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, int, list[Received]]:
    """Whole messages in frames, with control frames between any two; the longest allowed; their values."""
    limit = draw(st.just(1000) | st.integers(0, 100))
    data, expected = b"", list[Received]()

    def add_controls() -> None:
        nonlocal data
        for opcode, payload in draw(controls):
            data += frame(FINAL | opcode, payload, draw(masks))
            expected.append(PingReceived(payload) if opcode == PING else PONG_COME)

    for kind, content in draw(st.lists(st.tuples(st.sampled_from([TEXT, BINARY]), some_texts), max_size=4)):
        parts = cut(content.encode(), draw(st.lists(st.integers(0, 200), max_size=4)))
        came = 0
        for index, part in enumerate(parts):
            add_controls()
            last = index == len(parts) - 1
            data += frame(FINAL * last | (CONTINUATION if index else kind), part, draw(masks))
            came += len(part)
            if came > limit:
                return data, limit, [*expected, MESSAGE_TOO_BIG]
            if not last:
                expected.append(PART)
            elif kind == TEXT:
                expected.append(TextReceived(content))
            else:
                expected.append(BINARY_END)
    add_controls()
    if draw(st.booleans()):
        data += close(1000, b"bye") + text("behind")
        expected.append(CloseReceived(1000, "bye"))
    return data, limit, expected


@given(conversations(), some_places, some_calls)
def test_messages_are_the_same_however_they_are_split(
    conversation: tuple[bytes, int, list[Received]], places: list[int], calls: list[int]
) -> None:
    data, limit, expected = conversation
    assert_read(data, places, calls, limit, expected)


payloads = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=8).map(str.encode),
    st.integers(900, 5100).map(lambda code: code.to_bytes(2)),
    st.tuples(st.integers(1000, 1015), st.text(max_size=3)).map(
        lambda it: it[0].to_bytes(2) + it[1].encode()
    ),
    st.integers(120, 130).map(bytes),
    st.sampled_from([bytes(65535), bytes(65536)]),
)
usual_first_bytes = st.sampled_from([0x81, 0x01, 0x80, 0x00, 0x82, 0x02, 0x88, 0x89, 0x8A])


@st.composite
def wild_frames(draw: st.DrawFn) -> bytes:
    """All of a frame that need not be right."""
    first: int = draw(usual_first_bytes | st.integers(0, 255))
    payload: bytes = draw(payloads)
    if draw(st.integers(0, 9)):
        return frame(first, payload, draw(masks))
    size = len(payload)
    lengths = [b"\xff" + size.to_bytes(8), b"\x7f" + size.to_bytes(8), b"\xff" + (size | 1 << 63).to_bytes(8)]
    if size < 65536:
        lengths += [b"\xfe" + size.to_bytes(2), b"\x7e" + size.to_bytes(2)]
    if size < 126:
        lengths += [bytes((size,))]
    length: bytes = draw(st.sampled_from(lengths))
    return bytes((first,)) + length + bytes(4) + payload


@given(
    st.lists(wild_frames() | st.binary(max_size=20), max_size=8).map(b"".join),
    some_places,
    some_calls,
    st.sampled_from([0, 5, 130, NO_LIMIT]),
)
def test_any_bytes_are_read_the_same_however_they_are_split(
    data: bytes, places: list[int], calls: list[int], limit: int
) -> None:
    data = data[:2000]
    expected = read([data], limit)
    assert not any(isinstance(value, ENDS) for value in expected[:-1])
    assert_read(data, places, calls, limit, expected)


def read_by_another(data: bytes) -> list[Received]:
    """What wsproto makes of whole frames."""
    reader = FrameProtocol(client=False, extensions=[])
    reader.receive_bytes(data)
    received, parts = list[Received](), list[str]()
    try:
        for read_frame in reader.received_frames():
            match read_frame.opcode, read_frame.payload:
                case Opcode.TEXT, str(part):
                    parts.append(part)
                    if read_frame.message_finished:
                        received.append(TextReceived("".join(parts)))
                        parts.clear()
                    else:
                        received.append(PART)
                case Opcode.BINARY, _:
                    received.append(BINARY_END if read_frame.message_finished else PART)
                case Opcode.PING, bytes(payload):
                    received.append(PingReceived(payload))
                case Opcode.PONG, _:
                    received.append(PONG_COME)
                case Opcode.CLOSE, (code, reason):
                    received.append(CloseReceived(None if code == 1005 else int(code), str(reason)))
                case unknown:
                    raise AssertionError(unknown)
    except ParseFailed as failure:
        received.append(INVALID_TEXT if failure.code == 1007 else PROTOCOL_ERROR)
    return received


@given(st.lists(wild_frames(), max_size=8))
@example(
    [
        text("é"),
        frame(TEXT, b"\xc3"),
        frame(FINAL | PING, b"p"),
        frame(FINAL | CONTINUATION, b"\xa9"),
        close(3000),
    ]
)
@example(
    [frame(BINARY, b"\xff"), frame(CONTINUATION, b"\xff"), frame(FINAL | PONG), frame(FINAL | CONTINUATION)]
)
@example([frame(FINAL | CLOSE)])
def test_another_implementation_reads_the_same(frames: list[bytes]) -> None:
    assert read(frames) == read_by_another(b"".join(frames))
