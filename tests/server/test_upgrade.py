"""The opening handshake, bytes in and bytes out."""

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localful_ws.protocol import HandshakeError
from localful_ws.server.upgrade import (
    MAX_HEAD,
    accept_response,
    head_length,
    parse_upgrade,
    refusal,
    refusal_response,
)
from tests.raw_device import handshake

REQUEST = handshake("Origin: https://a.example", "Sec-WebSocket-Protocol: localful.v1 , x,,y")


def test_a_request() -> None:
    request = parse_upgrade(REQUEST)
    assert request.target == "/v1/sync"
    assert request.subprotocols == ("localful.v1", "x", "y")
    assert request.key == b"dGhlIHNhbXBsZSBub25jZQ=="
    headers = dict(request.headers)
    assert headers[b"origin"] == b"https://a.example"
    assert all(name == name.lower() for name in headers)
    assert b"localful" not in repr(request).encode()


def test_subprotocols_in_several_headers() -> None:
    request = parse_upgrade(
        handshake("Sec-WebSocket-Protocol: a", "X: y", "sec-websocket-protocol: b, c", path="/%41?q=1")
    )
    assert (request.target, request.subprotocols) == ("/%41?q=1", ("a", "b", "c"))
    assert parse_upgrade(handshake()).subprotocols == ()


def test_the_answer_is_that_of_the_rfc() -> None:
    request = parse_upgrade(REQUEST)
    plain = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    )
    assert accept_response(request, None) == plain + b"\r\n"
    assert accept_response(request, "x") == plain + b"Sec-WebSocket-Protocol: x\r\n\r\n"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"PUT", 405),
        (b"GET", b"get", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 405),
        (b"HTTP/1.1", b"HTTP/2.0", 405),
        (b"HTTP/1.1", b"FTP/1.1", 400),
        (b"Upgrade: websocket\r\n", b"", 426),
        (b"Upgrade: websocket", b"Upgrade: h2c", 426),
        (b"Connection: Upgrade\r\n", b"", 426),
        (b"Connection: Upgrade", b"Connection: keep-alive", 426),
        (b"Version: 13", b"Version: 12", 426),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 426),
        (b"Host: localhost\r\n", b"", 400),
        (b"Host: localhost\r\n", b"Host: localhost\r\nContent-Length: 5\r\n", 400),
        (b"Host: localhost\r\n", b"Host: localhost\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25jZQ", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBub25j", 400),
        (b"Host: localhost", b"Host: localhost\r\nhost: localhost", 400),
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400),
        (
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            400,
        ),
        (b"Host: localhost", b"Host localhost", 400),
        (b"Host: localhost", b"Host: local\0host", 400),
    ],
)
def test_what_is_wrong_is_said(old: bytes, new: bytes, status: int) -> None:
    assert REQUEST.count(old) == 1
    with pytest.raises(HandshakeError) as refused:
        parse_upgrade(REQUEST.replace(old, new))
    assert refused.value.status == status
    assert refused.value.message.endswith(".")


def test_a_header_that_may_stand_there_once_is_named() -> None:
    for name in ("Host", "Sec-Websocket-Key", "Sec-Websocket-Version"):
        with pytest.raises(HandshakeError) as refused:
            parse_upgrade(handshake(f"{name}: x"))
        assert refused.value.identifier == "bad-request"
        assert refused.value.message == f"The header {name} may stand there only once."


def test_other_headers_may_stand_there_more_than_once() -> None:
    request = parse_upgrade(
        handshake("X: a", "X: b").replace(
            b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: upgrade"
        )
    )
    assert [value for name, value in request.headers if name == b"x"] == [b"a", b"b"]


def test_where_the_head_ends() -> None:
    for cut in range(len(REQUEST)):
        assert head_length(REQUEST[:cut]) is None
    assert head_length(REQUEST) == len(REQUEST)
    assert head_length(bytearray(REQUEST + b"\r\n\r\nmore")) == len(REQUEST)


@pytest.mark.parametrize("first", [byte for byte in range(256) if not 0x41 <= byte <= 0x5A])
def test_what_is_not_http_is_refused_at_its_first_byte(first: int) -> None:
    with pytest.raises(HandshakeError) as refused:
        head_length(bytes([first]))
    assert (refused.value.status, refused.value.identifier) == (400, "bad-request")


def test_how_long_it_may_be() -> None:
    assert head_length(b"X" * (MAX_HEAD - 4) + b"\r\n\r\n") == MAX_HEAD
    assert head_length(b"X" * (MAX_HEAD - 1)) is None
    for too_long in (b"X" * MAX_HEAD, b"X" * (MAX_HEAD - 3) + b"\r\n\r\n"):
        with pytest.raises(HandshakeError) as refused:
            head_length(too_long)
        assert refused.value.status == 431


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 426, 429, 431, 503])
def test_a_refusal(status: int) -> None:
    error = HandshakeError(status, "word", "A sentence.")
    response = refusal_response(error)
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert json.loads(body) == {
        "statusCode": status,
        "identifier": "word",
        "message": "A sentence.",
        "context": {},
    }
    headers, same = refusal(error)
    assert same == body
    assert all(b"\r\n%s: %s\r\n" % header in head + b"\r\n" for header in headers)
    assert (b"\r\nWWW-Authenticate: Bearer\r\n" in head) == (status == 401)
    assert (b"\r\nRetry-After: " in head) == (status == 503)
    assert (b"\r\nSec-WebSocket-Version: 13\r\n" in head) == (status == 426)
    assert (b"\r\nAllow: GET\r\n" in head) == (status == 405)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=20).map(lambda junk: REQUEST[:60] + junk)))
@example(b"")
@example(b"\r\n\r\n")
@example(REQUEST[:-2])
def test_anything_is_a_request_or_refused(junk: bytes) -> None:
    with suppress(HandshakeError):
        parse_upgrade(junk + b"\r\n\r\n")
