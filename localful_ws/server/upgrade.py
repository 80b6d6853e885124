"""The opening handshake of RFC 6455 (section 4.2) as bytes in, bytes out.

httptools (the parser of Node) reads the request: it is strict, and takes a twentieth of the time of a parser
in Python, which would be most of what a connection costs.
"""

import base64
import binascii
import hashlib
import json
from http import HTTPStatus

import httptools
from attrs import field, frozen

from localful_ws.protocol import HandshakeError

MAX_HEAD = 16384
"""The longest request head, in bytes."""

_END_OF_HEAD = b"\r\n\r\n"
_ONCE = frozenset({b"host", b"sec-websocket-key", b"sec-websocket-version"})
_MORE_HEADERS = {
    401: ((b"WWW-Authenticate", b"Bearer"),),
    405: ((b"Allow", b"GET"),),
    426: ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")),
    503: ((b"Retry-After", b"5"),),
}
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@frozen
class UpgradeRequest:
    """A well-formed WebSocket handshake.

    Attributes:
        target: Path and query.
        headers: Names in lower case.
        subprotocols: What the client offers, in order.
        key: The ``Sec-WebSocket-Key``; empty where it has been answered already.
    """

    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    subprotocols: tuple[str, ...] = field(repr=False)
    key: bytes = b""


def head_length(received: bytes | bytearray) -> int | None:
    """How many of the bytes are the request head; None while its end has not come.

    Raises:
        HandshakeError: If it is longer than `MAX_HEAD`, or can't become a request.
    """
    if received and not 0x41 <= received[0] <= 0x5A:  # methods begin with a capital letter
        raise _not_http()
    end = received.find(_END_OF_HEAD, 0, MAX_HEAD)
    if end >= 0:
        return end + len(_END_OF_HEAD)
    if len(received) >= MAX_HEAD:
        raise HandshakeError(431, "head-too-big", f"A request head has at most {MAX_HEAD} bytes.")
    return None


def parse_upgrade(head: bytes) -> UpgradeRequest:
    """Read a request head, its empty line included.

    Raises:
        HandshakeError: If it is not HTTP/1.1, or not a WebSocket handshake of version 13.
    """
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise _not_http() from None
    if parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
        raise HandshakeError(405, "method-not-allowed", "A WebSocket handshake is a GET of HTTP/1.1.")
    fields: dict[bytes, bytes] = {}
    for name, value in collector.headers:
        if name not in fields:
            fields[name] = value
        elif name in _ONCE:
            raise _bad(f"The header {name.decode().title()} may stand there only once.")
        else:
            fields[name] += b"," + value
    _check(fields)
    return UpgradeRequest(
        collector.target.decode("latin-1"),
        tuple(collector.headers),
        _subprotocols(fields.get(b"sec-websocket-protocol", b"")),
        fields[b"sec-websocket-key"],
    )


def _check(fields: dict[bytes, bytes]) -> None:
    """Check the headers of a request (RFC 6455, section 4.2.1)."""
    if b"websocket" not in _tokens(fields.get(b"upgrade", b"")) or b"upgrade" not in _tokens(
        fields.get(b"connection", b"")
    ):
        raise HandshakeError(
            426,
            "upgrade-required",
            "This endpoint speaks WebSocket: Upgrade: websocket, Connection: Upgrade.",
        )
    if fields.get(b"sec-websocket-version") != b"13":
        raise HandshakeError(426, "upgrade-required", "Sec-WebSocket-Version must be 13.")
    if b"host" not in fields:
        raise _bad("The Host header is missing.")
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise _bad("A WebSocket handshake has no body.")
    if not _is_key(fields.get(b"sec-websocket-key", b"")):
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64.")


def accept_response(request: UpgradeRequest, subprotocol: str | None) -> bytes:
    """Write the 101 that opens the WebSocket, selecting ``subprotocol`` if it is not None."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    selected = b"" if subprotocol is None else b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol.encode("ascii")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n%s\r\n" % (accept, selected)
    )


def refusal(error: HandshakeError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body with which a handshake is refused, but for the length."""
    body = {
        "statusCode": error.status,
        "identifier": error.identifier,
        "message": error.message,
        "context": {},
    }
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Connection", b"close"),
        *_MORE_HEADERS.get(error.status, ()),
    ]
    return headers, json.dumps(body).encode()


def refusal_response(error: HandshakeError) -> bytes:
    """Write the HTTP response that ends a handshake."""
    headers, body = refusal(error)
    return b"HTTP/1.1 %d %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        error.status,
        HTTPStatus(error.status).phrase.encode("ascii"),
        b"".join(b"%s: %s\r\n" % header for header in headers),
        len(body),
        body,
    )


class _Collector:
    """What httptools calls while it parses."""

    __slots__ = ("headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def _not_http() -> HandshakeError:
    return _bad("This is not an HTTP request.")


def _bad(message: str) -> HandshakeError:
    return HandshakeError(400, "bad-request", message)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _subprotocols(value: bytes) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in value.decode("latin-1").split(",")) if name)


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
