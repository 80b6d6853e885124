"""The opening handshake of RFC 6455 (section 4.2) as bytes in, bytes out.

httptools (the parser of Node) reads the request: it is strict, and takes a twentieth of the time of a parser
in Python, which would be most of what a connection costs.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from http import HTTPStatus

import httptools
from attrs import field, frozen

MAX_HEAD = 16384
"""The longest request head, in bytes."""

_END_OF_HEAD = b"\r\n\r\n"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class UpgradeError(Exception):
    """What came is no WebSocket handshake.

    Attributes:
        status: The HTTP status to answer with.
        identifier: A word for programs.
        message: A sentence for people.
    """

    def __init__(self, status: int, identifier: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.identifier = identifier
        self.message = message


@frozen
class UpgradeRequest:
    """A well-formed WebSocket handshake.

    Attributes:
        target: Path and query.
        headers: Names in lower case.
        subprotocols: What the client offers, in order.
        key: The ``Sec-WebSocket-Key``.
    """

    target: str
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    subprotocols: tuple[str, ...] = field(repr=False)
    key: bytes


def head_length(received: bytes | bytearray) -> int | None:
    """How many of the bytes are the request head; None while its end has not come.

    Raises:
        UpgradeError: If it is longer than `MAX_HEAD`.
    """
    end = received.find(_END_OF_HEAD, 0, MAX_HEAD)
    if end >= 0:
        return end + len(_END_OF_HEAD)
    if len(received) >= MAX_HEAD:
        raise UpgradeError(431, "head-too-big", f"A request head has at most {MAX_HEAD} bytes.")
    return None


def parse_upgrade(head: bytes) -> UpgradeRequest:
    """Read a request head, its empty line included.

    Raises:
        UpgradeError: If it is not HTTP/1.1, or not a WebSocket handshake of version 13.
    """
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise UpgradeError(400, "bad-request", "This is not an HTTP request.") from None
    if parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
        raise UpgradeError(405, "method-not-allowed", "A WebSocket handshake is a GET of HTTP/1.1.")
    fields: dict[bytes, bytes] = {}
    for name, value in collector.headers:
        fields[name] = fields[name] + b"," + value if name in fields else value
    if b"websocket" not in _tokens(fields.get(b"upgrade", b"")) or b"upgrade" not in _tokens(
        fields.get(b"connection", b"")
    ):
        raise UpgradeError(
            426,
            "upgrade-required",
            "This endpoint speaks WebSocket: Upgrade: websocket, Connection: Upgrade.",
        )
    if fields.get(b"sec-websocket-version") != b"13":
        raise UpgradeError(426, "upgrade-required", "Sec-WebSocket-Version must be 13.")
    if b"host" not in fields:
        raise UpgradeError(400, "bad-request", "The Host header is missing.")
    if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
        raise UpgradeError(400, "bad-request", "A WebSocket handshake has no body.")
    key = fields.get(b"sec-websocket-key", b"")
    if not _is_key(key):
        raise UpgradeError(400, "bad-request", "Sec-WebSocket-Key must be 16 bytes in base64.")
    return UpgradeRequest(
        collector.target.decode("latin-1"),
        tuple(collector.headers),
        _subprotocols(fields.get(b"sec-websocket-protocol", b"")),
        key,
    )


def accept_response(request: UpgradeRequest, subprotocol: str | None) -> bytes:
    """Write the 101 that opens the WebSocket, selecting ``subprotocol`` if it is not None."""
    accept = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    selected = b"" if subprotocol is None else b"Sec-WebSocket-Protocol: %s\r\n" % subprotocol.encode("ascii")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n%s\r\n" % (accept, selected)
    )


def refusal_response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Write the HTTP response that ends a handshake; the length of the body is added to the headers."""
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status,
        HTTPStatus(status).phrase.encode("ascii"),
        lines,
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


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip().lower() for token in value.split(b",")]


def _subprotocols(value: bytes) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in value.decode("latin-1").split(",")) if name)


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
