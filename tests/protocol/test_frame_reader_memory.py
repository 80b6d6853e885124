"""What a reader of frames keeps, and when it can be thrown away."""

import tracemalloc
from collections.abc import Iterable

import pytest

from localful_ws.protocol import CloseReceived, FrameReader, Received, TextReceived
from tests.protocol.device_frames import (
    BINARY,
    CONTINUATION,
    FINAL,
    INVALID_TEXT,
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
    text,
    unfinished,
    values,
)


def test_a_reader_is_idle_when_it_keeps_nothing() -> None:
    data = text("a") + frame(TEXT, b"b") + frame(FINAL | PING, b"c") + frame(FINAL | CONTINUATION, b"d")
    idle_after = {0, len(text("a")), len(data)}
    reader = FrameReader(1000)
    for count in range(len(data)):
        assert reader.idle == (count in idle_after), count
        reader.receive(data[count : count + 1])
        assert not reader.idle, "the byte is not looked at yet"
        list(values(reader))
    assert reader.idle
    assert reader.buffered == 0


@pytest.mark.parametrize("prefix", STANDS.values(), ids=STANDS)
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (close(1000), CloseReceived(1000, "")),
        (b"\x83\x80", PROTOCOL_ERROR),
        (close(1000, b"\xff"), INVALID_TEXT),
    ],
    ids=["closed", "malformed", "not UTF-8"],
)
def test_nothing_is_read_after_the_end(prefix: bytes, rest: bytes, expected: Received) -> None:
    reader = begun(prefix)
    reader.receive(rest + text("behind"))
    assert reader.next() == expected
    for _ in range(2):
        assert reader.next() is None
        assert (reader.idle, reader.buffered) == (False, 0)
        reader.receive(text("later"))
        assert (reader.idle, reader.buffered) == (False, 0)


def test_reading_may_stop_between_any_two_frames() -> None:
    reader = FrameReader(1000)
    reader.receive(text("a") + frame(FINAL | PONG) + text("b")[:3])
    assert reader.next() == TextReceived("a")
    assert reader.buffered == 6 + 3
    assert not reader.idle
    reader.receive(text("b")[3:] + text("c"))
    assert reader.buffered == 6 + 7 + 7
    assert [reader.next(), reader.next()] == [PONG_COME, TextReceived("b")]
    assert reader.buffered == 7
    assert [reader.next(), reader.next()] == [TextReceived("c"), None]
    assert reader.idle


def test_what_has_come_of_a_payload_is_not_waiting_any_more() -> None:
    reader = begun(unfinished(b"abc"))
    assert (reader.buffered, reader.idle) == (0, False)
    # A control frame is read when all of it is there.
    ping = frame(FINAL | PING, b"abc")
    reader = begun(ping[:-1])
    assert (reader.buffered, reader.idle) == (len(ping) - 1, False)


LIMIT = 32768
# What a reader is given at a time, its own attributes, and what coverage or the like takes.
BESIDE = 16 * 1024


def allocated(reader: FrameReader, data: Iterable[bytes]) -> int:
    """The most that is allocated at a time while ``reader`` reads, in bytes."""
    tracemalloc.start()
    try:
        for piece in data:
            reader.receive(piece)
            for received in values(reader):
                assert received == PART
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_fragments_of_one_character_each_take_no_more_than_their_bytes() -> None:
    reader = FrameReader(LIMIT)
    data = pieces(frame(TEXT) + frame(CONTINUATION, "é".encode()) * (LIMIT // 2), 4096)
    assert allocated(reader, data) < LIMIT * 9 / 8 + BESIDE
    reader.receive(frame(FINAL | CONTINUATION))
    assert reader.next() == TextReceived("é" * (LIMIT // 2))


def test_fragments_without_content_take_nothing() -> None:
    reader = FrameReader(LIMIT)
    data = pieces(frame(TEXT, b"{") + frame(CONTINUATION) * 10_000, 4096)
    assert allocated(reader, data) < BESIDE
    reader.receive(frame(FINAL | CONTINUATION, b"}"))
    assert reader.next() == TextReceived("{}")


def test_an_unfinished_frame_takes_no_more_than_what_has_come() -> None:
    data = frame(FINAL | TEXT, b"x" * LIMIT)
    reader = FrameReader(LIMIT)
    assert allocated(reader, pieces(data[:10_000], 100)) < 10_000 * 9 / 8 + BESIDE
    reader.receive(data[10_000:-1])
    assert reader.next() is None
    reader.receive(data[-1:])
    assert reader.next() == TextReceived("x" * LIMIT)


def test_a_binary_is_not_kept() -> None:
    data = pieces(head(BINARY, 1 << 40) + bytes(1 << 20), 4096)
    reader = FrameReader(1 << 40)
    assert allocated(reader, data) < BESIDE


def test_what_is_decoded_is_let_go_of_before_more_comes() -> None:
    reader = FrameReader(1 << 40)
    tracemalloc.start()
    try:
        reader.receive(head(BINARY, 1 << 40) + bytes(1 << 20))
        assert reader.next() is None
        assert tracemalloc.get_traced_memory()[0] < BESIDE
    finally:
        tracemalloc.stop()


def test_a_byte_more_costs_the_same_however_much_has_come() -> None:
    reader = begun(head(FINAL | TEXT, LIMIT) + frame(0, b"x" * (LIMIT - 1000))[8:], LIMIT)
    tracemalloc.start()
    try:
        copied = 0
        for byte in pieces(frame(0, b"x" * 999)[8:], 1):
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            reader.receive(byte)
            assert reader.next() is None
            copied += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    # Were all of the text copied each time, it would be four times as much.
    assert copied < 999 * LIMIT / 4
