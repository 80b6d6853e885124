"""Asks a public URL, by hand: a library would hide from a check what a proxy does to a handshake."""

import base64
import hashlib
import os
import re
import ssl
from contextlib import suppress
from typing import Final

import trio
from attrs import field, frozen
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from localful_ws import __version__
from localful_ws.client.endpoint import Endpoint
from localful_ws.protocol import SUBPROTOCOL

_MOST_HEAD: Final = 32 * 1024
_MOST_BODY: Final = 16 * 1024
_CHUNK: Final = 4096
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_IDENTIFIER: Final = re.compile(rb'"identifier"\s*:\s*"([a-z-]{1,40})"')
_MESSAGE: Final = re.compile(rb'"message"\s*:\s*"([^"\\]{1,200})"')


class NoAnswerError(Exception):
    """What came is no answer in HTTP; the message is a sentence."""


@frozen
class Answer:
    """An answer in HTTP.

    Attributes:
        status: Its status.
        headers: Names in lower case.
        body: Its first bytes.
    """

    status: int
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False, default=b"")

    @property
    def identifier(self) -> str:
        """What a Localful server calls its refusal; empty if it is somebody else's answer."""
        found = _IDENTIFIER.search(self.body) if b'"statusCode"' in self.body else None
        return "" if found is None else found[1].decode()

    @property
    def message(self) -> str:
        """The sentence of a Localful server."""
        found = _MESSAGE.search(self.body) if self.identifier else None
        return "" if found is None else found[1].decode(errors="replace")


@frozen
class Upgraded:
    """A 101, and what it leads to.

    Attributes:
        headers: Names in lower case.
        accepted: Whether it is the answer to our key.
        stream: The connection; whoever gets it closes it.
        rest: What came after the head.
    """

    headers: dict[str, str] = field(repr=False)
    accepted: bool
    stream: trio.abc.Stream
    rest: bytes = b""

    @property
    def subprotocol(self) -> str | None:
        """The one that was selected."""
        return self.headers.get("sec-websocket-protocol")


async def open_stream(endpoint: Endpoint) -> trio.abc.Stream:
    """Connect, with TLS if it is ``wss``; trusts whom the system trusts.

    Raises:
        OSError: If there is no connection.
        trio.BrokenResourceError: If TLS fails; the cause says why.
    """
    if not endpoint.tls:
        return await trio.open_tcp_stream(endpoint.host, endpoint.port)
    stream = await trio.open_ssl_over_tcp_stream(
        endpoint.host, endpoint.port, https_compatible=True, ssl_context=ssl.create_default_context()
    )
    try:
        # At once, so that a certificate that is not trusted is an error of its own.
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def get(endpoint: Endpoint, target: str) -> Answer:
    """GET something there.

    Raises:
        OSError: If there is no connection.
        trio.BrokenResourceError: If there is no TLS, or the connection broke.
        NoAnswerError: If what answers is no HTTP server.
    """
    stream = await open_stream(endpoint)
    try:
        await stream.send_all(_request(endpoint, target, "Connection: close", "Accept: */*"))
        status, headers, rest = await _read_head(stream)
        return Answer(status, headers, await _read_body(stream, headers, rest))
    finally:
        await trio.aclose_forcefully(stream)


async def upgrade(endpoint: Endpoint, *headers: str) -> Answer | Upgraded:
    """Ask to open a WebSocket, as a device does.

    Args:
        endpoint: Where.
        headers: More headers.

    Raises:
        OSError: If there is no connection.
        trio.BrokenResourceError: If there is no TLS, or the connection broke.
        NoAnswerError: If what answers is no HTTP server.
    """
    key = base64.b64encode(os.urandom(16))
    stream = await open_stream(endpoint)
    try:
        request = _request(
            endpoint,
            endpoint.target,
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode()}",
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
            *headers,
        )
        await stream.send_all(request)
        status, answered, rest = await _read_head(stream)
        if status == 101:
            expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
            return Upgraded(answered, answered.get("sec-websocket-accept") == expected, stream, rest)
        answer = Answer(status, answered, await _read_body(stream, answered, rest))
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    await trio.aclose_forcefully(stream)
    return answer


class Frames:
    """Frames on a WebSocket that was opened.

    Args:
        opened: The WebSocket.

    Attributes:
        pings: How many pings came.
        texts: Messages that came.
        code: The close code, once one came.
    """

    def __init__(self, opened: Upgraded) -> None:
        self._stream = opened.stream
        self._connection = Connection(ConnectionType.CLIENT, trailing_data=opened.rest)
        self.pings = 0
        self.texts: list[str] = []
        self.code: int | None = None

    async def ping(self) -> bool:
        """Send a ping and wait for its pong; False if the connection ends instead."""
        await self._stream.send_all(self._connection.send(Ping(b"check")))
        return await self._take_until_pong()

    async def take_until_end(self) -> None:
        """Take what comes, and answer pings, until the connection ends."""
        while not await self._take_until_pong():
            return

    async def close(self) -> None:
        """Say goodbye and close, without waiting for an answer."""
        if self.code is None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, LocalProtocolError):
                await self._stream.send_all(self._connection.send(CloseConnection(1000)))
        await trio.aclose_forcefully(self._stream)

    async def _take_until_pong(self) -> bool:
        try:
            while True:
                for event in self._connection.events():
                    match event:
                        case Pong():
                            return True
                        case Ping():
                            self.pings += 1
                            await self._stream.send_all(self._connection.send(event.response()))
                        case CloseConnection():
                            self.code = int(event.code)
                            return False
                        case TextMessage() if len(self.texts) < 10:
                            self.texts.append(str(event.data))
                        case BytesMessage() | TextMessage() | _:
                            pass
                chunk = await self._stream.receive_some(_CHUNK)
                if not chunk:
                    return False
                self._connection.receive_data(bytes(chunk))
        except (trio.BrokenResourceError, RemoteProtocolError):
            return False


def _request(endpoint: Endpoint, target: str, *headers: str) -> bytes:
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {endpoint.host_header}",
        f"User-Agent: localful-ws-check/{__version__}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace")


async def _read_head(stream: trio.abc.Stream) -> tuple[int, dict[str, str], bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = await stream.receive_some(_CHUNK)
        if not chunk or len(received) > _MOST_HEAD:
            ended = "hung up without an answer" if not received else "answered with something else than HTTP"
            raise NoAnswerError(f"What is there {ended}.")
        received += bytes(chunk)
        if not b"HTTP/".startswith(received[:5]) and not received.startswith(b"HTTP/"):
            raise NoAnswerError("What is there answered with something else than HTTP.")
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/\d(?:\.\d)? (\d{3})", first)
    if status is None:
        raise NoAnswerError("What is there answered with something else than HTTP.")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(status[1]), headers, rest


async def _read_body(stream: trio.abc.Stream, headers: dict[str, str], rest: bytes) -> bytes:
    """The first of a body: what came in a moment, or all that was announced."""
    length = headers.get("content-length", "")
    most = min(int(length), _MOST_BODY) if length.isascii() and length.isdigit() else _MOST_BODY
    with trio.move_on_after(1):
        while len(rest) < most and not rest.endswith(b"\r\n0\r\n\r\n"):
            try:
                chunk = await stream.receive_some(_CHUNK)
            except trio.BrokenResourceError:
                break
            if not chunk:
                break
            rest += bytes(chunk)
    return rest
