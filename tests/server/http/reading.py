"""What a reader of requests makes of bytes, at once and one by one."""

from collections.abc import Iterable

from attrs import astuple, field, frozen

from localful_ws.server.http.requests import Request, RequestError, RequestReader

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

IDENTIFIERS = {400: "bad-request", 431: "head-too-big", 501: "not-implemented", 505: "version-not-supported"}
"""Those of the errors, by status."""


def _values(requests: list[tuple[Request, bytes]]) -> object:
    return [(astuple(request), body) for request, body in requests]


@frozen
class Came:
    """What came of some bytes: requests with their bodies, and the status of the error after them."""

    requests: list[tuple[Request, bytes]] = field(eq=_values)
    error: int | None = None

    def paths(self) -> list[str]:
        """The paths of the requests."""
        return [request.path for request, _ in self.requests]


def feed(pieces: Iterable[bytes]) -> Came:
    """Give pieces to a reader; their bodies are taken once all have come. After an error it reads nothing."""
    reader = RequestReader()
    error: RequestError | None = None
    try:
        for piece in pieces:
            reader.feed(piece)
    except RequestError as raised:
        error = raised
    if error is not None:
        assert (error.identifier, error.message) == (IDENTIFIERS[error.status], str(error))
        assert error.message.endswith(".")
        for more in (NEXT, b"\x00", b""):
            reader.feed(more)
    came = [(request, request.take_body()) for request in reader.requests]
    return Came(came, None if error is None else error.status)


def read(data: bytes) -> Came:
    """Read bytes at once, and see that it is the same one by one."""
    whole = feed([data])
    assert feed([data[at : at + 1] for at in range(len(data))]) == whole
    return whole


def the_one(data: bytes) -> tuple[Request, bytes]:
    """The one complete request that these bytes are."""
    came = read(data)
    assert came.error is None
    ((request, body),) = came.requests
    assert request.is_complete
    return request, body
