"""RESP3 as a subscriber hears it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localful_ws.engine.redis.replies import ErrorReply, ProtocolError, Push, ReplyReader


def read(*chunks: bytes) -> list[Any]:
    reader = ReplyReader()
    replies: list[Any] = []
    for chunk in chunks:
        reader.feed(chunk)
        replies.extend(reader.replies())
    return replies


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b"-NOPERM no\r\n", ErrorReply("NOPERM no")),
        (b":-12\r\n", -12),
        (b"(123456789012345678901\r\n", 123456789012345678901),
        (b",1.5\r\n", 1.5),
        (b"#t\r\n", True),
        (b"#f\r\n", False),
        (b"_\r\n", None),
        (b"$-1\r\n", None),
        (b"$0\r\n\r\n", b""),
        (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
        (b"*0\r\n", []),
        (b"*2\r\n:1\r\n*1\r\n+x\r\n", [1, [b"x"]]),
        (b"~1\r\n:1\r\n", [1]),
        (b"%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*0\r\n", {b"a": 1, b"b": []}),
        (b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n", Push([b"message", b"c", b"hi"])),
    ],
)
def test_a_reply_is_read_in_whatever_pieces_it_comes(data: bytes, reply: object) -> None:
    assert read(data) == [reply]
    assert read(*(data[i : i + 1] for i in range(len(data)))) == [reply]
    assert read(data + data, data) == [reply] * 3


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 20))
def test_messages_come_out_as_they_went_in(payloads: list[bytes], size: int) -> None:
    data = b"".join(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$%d\r\n%b\r\n" % (len(p), p) for p in payloads)
    chunks = [data[i : i + size] for i in range(0, len(data), size)]
    assert read(*chunks) == [Push([b"message", b"c", payload]) for payload in payloads]


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"$x\r\n", b":one\r\n", b"%1\r\n*0\r\n:1\r\n"]
)
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)
