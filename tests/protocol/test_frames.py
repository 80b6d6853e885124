"""Server frames, byte by byte (RFC 6455, section 5)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from localful_ws.protocol import CloseCode, close_frame, ping_frame, pong_frame, text_frame


@pytest.mark.parametrize(
    ("make", "head", "payload"),
    [
        (lambda: text_frame(b""), b"\x81\x00", b""),
        (lambda: text_frame(b"Hello"), b"\x81\x05", b"Hello"),  # the example of section 5.7
        (lambda: text_frame(b"x" * 125), b"\x81\x7d", b"x" * 125),
        (lambda: text_frame(b"x" * 126), b"\x81\x7e\x00\x7e", b"x" * 126),
        (lambda: text_frame(b"x" * 256), b"\x81\x7e\x01\x00", b"x" * 256),
        (lambda: text_frame(b"x" * 65535), b"\x81\x7e\xff\xff", b"x" * 65535),
        (lambda: text_frame(b"x" * 65536), b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", b"x" * 65536),
        (ping_frame, b"\x89\x00", b""),
        (lambda: ping_frame(b"Hello"), b"\x89\x05", b"Hello"),
        (lambda: ping_frame(b"x" * 125), b"\x89\x7d", b"x" * 125),
        (lambda: pong_frame(b"Hello"), b"\x8a\x05", b"Hello"),
        (lambda: pong_frame(b"x" * 125), b"\x8a\x7d", b"x" * 125),
        (lambda: close_frame(1000), b"\x88\x02", b"\x03\xe8"),
        (lambda: close_frame(4408, "é"), b"\x88\x04", b"\x11\x38\xc3\xa9"),
        (lambda: close_frame(65535), b"\x88\x02", b"\xff\xff"),
        (lambda: close_frame(1001, "x" * 123), b"\x88\x7d", b"\x03\xe9" + b"x" * 123),
    ],
)
def test_frame(make: Callable[[], bytes], head: bytes, payload: bytes) -> None:
    assert make() == head + payload


@pytest.mark.parametrize(
    "make",
    [
        lambda: ping_frame(b"x" * 126),
        lambda: pong_frame(b"x" * 126),
        lambda: close_frame(1000, "x" * 124),
        lambda: close_frame(1000, "é" * 62),
    ],
)
def test_a_control_frame_over_125_bytes_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError, match=r"^A control frame carries at most 125 bytes\.$"):
        make()


@pytest.mark.parametrize("code", CloseCode)
def test_every_close_code_fits_into_a_frame(code: CloseCode) -> None:
    assert close_frame(code, code.reason)[4:] == code.reason.encode()


@given(st.text(max_size=300) | st.sampled_from(["é" * 40_000]))
def test_another_implementation_reads_a_text_frame(text: str) -> None:
    reader = FrameProtocol(client=True, extensions=[])
    reader.receive_bytes(text_frame(text.encode()))
    frames = list(reader.received_frames())
    assert {frame.opcode for frame in frames} == {Opcode.TEXT}
    assert "".join(str(frame.payload) for frame in frames) == text
    assert frames[-1].message_finished
