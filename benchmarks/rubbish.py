"""What a socket without a token may send instead of what it should."""

import random
import secrets
import ssl
from collections.abc import Callable
from contextlib import suppress

import attrs

from benchmarks.wire import PING, TEXT, client_frame, upgrade_request

CONTINUATION = 0x0
FINAL = 0x80
CHUNK = 16 * 1024


@attrs.frozen
class Rubbish:
    """What one socket sends.

    Attributes:
        upgrade: Whether a WebSocket handshake goes before it.
        first: Sent once.
        again: Sent over and over, as fast as the socket takes it; nothing if it is empty.
    """

    upgrade: bool
    first: bytes = b""
    again: bytes = b""


def unfinished(opcode: int, payload: bytes) -> bytes:
    """A frame that says that more of its message follows."""
    frame = client_frame(opcode, payload)
    return bytes((frame[0] & ~FINAL,)) + frame[1:]


def many(unit: bytes) -> bytes:
    """As many of them as make a good chunk."""
    return unit * max(1, CHUNK // len(unit))


def silence(_port: int) -> Rubbish:
    """Nothing after the handshake: the mildest of all."""
    return Rubbish(upgrade=True)


def empty_continuations(_port: int) -> Rubbish:
    """A message is begun; then its continuations come, all empty."""
    return Rubbish(upgrade=True, first=unfinished(TEXT, b"{"), again=many(unfinished(CONTINUATION, b"")))


def one_byte_fragments(_port: int) -> Rubbish:
    """A message in frames of one byte each, which has no end."""
    return Rubbish(upgrade=True, first=unfinished(TEXT, b"{"), again=many(unfinished(CONTINUATION, b" ")))


def pings(_port: int) -> Rubbish:
    """Empty pings, each of which wants a pong."""
    return Rubbish(upgrade=True, again=many(client_frame(PING, b"")))


def random_frames(_port: int) -> Rubbish:
    """Random bytes where frames should be; the same bytes in each run."""
    return Rubbish(upgrade=True, again=random.Random(1).randbytes(CHUNK))


def random_bytes(_port: int) -> Rubbish:
    """Random bytes where a request should be."""
    return Rubbish(upgrade=False, again=random.Random(2).randbytes(CHUNK))


def tls_hello(_port: int) -> Rubbish:
    """The beginning of TLS, over and over, at a listener without TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return Rubbish(upgrade=False, again=many(outgoing.read()))


def half_request(port: int) -> Rubbish:
    """Half a handshake, and then silence."""
    request = upgrade_request(port, "/v1/sync", subprotocol=True)
    return Rubbish(upgrade=False, first=request[: len(request) // 2])


def endless_header(port: int) -> Rubbish:
    """A handshake with a header that has no end."""
    request = upgrade_request(port, "/v1/sync", subprotocol=True)
    letters = secrets.token_hex(CHUNK // 2).encode()
    return Rubbish(upgrade=False, first=request.removesuffix(b"\r\n") + b"X-Endless: ", again=letters)


RUBBISH: dict[str, Callable[[int], Rubbish]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        silence,
        empty_continuations,
        one_byte_fragments,
        pings,
        random_frames,
        random_bytes,
        tls_hello,
        half_request,
        endless_header,
    )
}
"""By kind; each is told the server's port."""
KINDS = tuple(RUBBISH)
