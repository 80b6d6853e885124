"""What HTTP clients send, as `RequestReader` reads it: the same requests however the bytes are split.

The first byte of an input says how many bytes come at a time, the others are what comes, and then the end.
"""

from collections.abc import Sequence
from itertools import zip_longest

from attrs import astuple

from localful_ws.server.http.requests import MAX_HEAD, Request, RequestError, RequestReader

_STATUSES = {
    "bad-request": 400,
    "head-too-big": 431,
    "not-implemented": 501,
    "version-not-supported": 505,
}


def check(data: bytes) -> None:
    """Read requests whole and in pieces."""
    at_once, data = max(data[0], 1) if data else 1, data[1:]
    whole = _read([data])
    in_pieces = _read([data[at : at + at_once] for at in range(0, len(data), at_once)])
    if len(data) <= MAX_HEAD:
        assert whole == in_pieces
        assert whole[1] != _STATUSES["head-too-big"]


def _read(pieces: Sequence[bytes]) -> tuple[list[object], int | None]:
    """The requests with their bodies, and the status of the error after them."""
    reader, bodies, status, fed = RequestReader(), [b""], None, 0
    for piece in (*pieces, b""):
        fed += len(piece)
        try:
            reader.feed(piece)
        except RequestError as error:
            status = _check_error(error)
        _check_requests(reader.requests, fed)
        taken = [request.take_body() for request in reader.requests]
        bodies = [before + new for before, new in zip_longest(bodies, taken, fillvalue=b"")]
        if status is not None:
            break
    else:
        assert reader.is_between
        assert all(request.is_complete for request in reader.requests)
    assert sum(map(len, bodies)) <= fed
    return [(astuple(request), body) for request, body in zip(reader.requests, bodies, strict=False)], status


def _check_error(error: RequestError) -> int:
    assert error.status == _STATUSES[error.identifier]
    assert error.message.endswith(".")
    return error.status


def _check_requests(requests: Sequence[Request], fed: int) -> None:
    assert all(request.is_complete for request in list(requests)[:-1])
    assert all(request.keeps_alive for request in list(requests)[:-1])
    size = 0
    for request in requests:
        assert request.version in ("1.0", "1.1")
        assert request.raw_path.startswith(b"/") or request.method in ("CONNECT", "OPTIONS")
        assert not request.expects_continue or request.version == "1.1"
        names = [name for name, _ in request.headers]
        assert names.count(b"host") == 1 or (request.version == "1.0" and b"host" not in names)
        assert not {b"content-length", b"transfer-encoding"} <= set(names)
        assert not any(value != value.strip(b" \t") for _, value in request.headers)
        size += len(request.raw_path) + len(request.query) + sum(map(len, request.body))
        size += sum(len(name) + len(value) for name, value in request.headers)
    assert size <= fed
