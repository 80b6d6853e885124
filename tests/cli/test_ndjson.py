"""Batches of lines."""

import io
import json

import pytest

from localful_ws.cli.ndjson import LineError, read_batches


class Chunks(io.BytesIO):
    """Gives what it holds in the chunks it was given."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self.chunks = list(chunks)

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def batches(*chunks: bytes, max_events: int = 1000) -> list[tuple[tuple[int, ...], object]]:
    return [(batch.lines, json.loads(batch.body)) for batch in read_batches(Chunks(*chunks), max_events)]


def test_what_arrives_together_is_sent_together() -> None:
    assert batches(b'{"a":1}\n{"b":', b"2}\n", b'{"c":3}\n\n \r\n{"d":4}\r\n{"e":5}') == [
        ((1,), {"events": [{"a": 1}]}),
        ((2,), {"events": [{"b": 2}]}),
        ((3, 6), {"events": [{"c": 3}, {"d": 4}]}),
        ((7,), {"events": [{"e": 5}]}),
    ]


@pytest.mark.parametrize("chunks", [(), (b"\n\n",), (b"\n", b"  ")])
def test_nothing_is_nothing(chunks: tuple[bytes, ...]) -> None:
    assert batches(*chunks) == []


def test_a_batch_holds_no_more_than_the_server_takes() -> None:
    found = batches(b"{}\n" * 25, max_events=10)
    assert [len(lines) for lines, _ in found] == [10, 10, 5]
    assert found[1][0] == tuple(range(11, 21))


def test_a_batch_is_no_larger_than_need_be() -> None:
    line = b'{"data":"' + b"x" * 400_000 + b'"}\n'
    assert [lines for lines, _ in batches(line * 5)] == [(1, 2), (3, 4), (5,)]


def test_events_are_passed_on_as_they_were_written() -> None:
    (batch,) = read_batches(Chunks(b'{"data": 1.50, "big":1e400, "data":2}\n'), 10)
    assert batch.body == b'{"events":[{"data": 1.50, "big":1e400, "data":2}]}'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"hello", "Line 3 is not JSON."),
        (b"[]", "Line 3 is not a JSON object."),
        (b'{"data":NaN}', "Line 3 is not JSON."),
        (b'{"data":"\xff"}', "Line 3 is not JSON."),
        (b'{"data":%b}' % (b"[" * 101 + b"]" * 101), "Line 3 is nested more than 100 deep."),
        (b'\xef\xbb\xbf{"data":1}', "Line 3 is not JSON."),
    ],
)
def test_a_line_that_is_no_object_is_named_after_what_went_before(line: bytes, complaint: str) -> None:
    reading = read_batches(Chunks(b"{}\n{}\n" + line + b"\n{}\n"), 10)
    assert next(reading).lines == (1, 2)
    with pytest.raises(LineError) as caught:
        next(reading)
    assert str(caught.value) == complaint


def test_a_line_without_end_is_not_gathered_without_end() -> None:
    with pytest.raises(LineError, match=r"^Line 2 is longer than 33554432 bytes\.$"):
        batches(b"{}\n", *[b"x" * 1024 * 1024] * 40)


def test_a_line_may_have_what_the_server_takes() -> None:
    line = b'{"data":%b,"more":%b}' % (b"[" * 100 + b"]" * 100, b"9" * 5000)
    (batch,) = read_batches(Chunks(line), 10)
    assert batch.body == b'{"events":[%b]}' % line
