"""Requests of HTTP/1.1 (RFC 9112), bytes in, requests out: no I/O.

httptools (the parser of Node) reads them. What two readers could understand differently is refused.
"""

import re
from collections import deque
from collections.abc import Sequence
from urllib.parse import unquote

import httptools
from attrs import define, field

MAX_HEAD = 16384
"""The longest request head that is always taken, in bytes; trailers after a chunked body have as much.

One longer than this and what is fed at a time together is always refused. Between them it depends on how the
head comes: httptools does not say where in what is fed it begins and ends.
"""

# RFC 9110, section 7.2: a host, as in a URL, and a port; neither need be there.
_HOST = re.compile(rb"(?:\[[\w.:%~-]+\]|[\w.~%!$&'()*+,;=-]*)(?::\d*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?]+)(.*)", re.IGNORECASE)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_ONCE = frozenset({b"host", b"authorization", b"content-length", b"transfer-encoding", b"origin"})
_CONTINUE = b"100-continue"


class RequestError(Exception):
    """What came is no request that could be answered otherwise than with this error. The connection is over.

    Attributes:
        status: The HTTP status.
        identifier: A word for programs.
        message: A sentence for people.
    """

    def __init__(self, status: int, identifier: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.identifier = identifier
        self.message = message


@define(eq=False)
class Request:
    """One request, as far as it has come.

    Attributes:
        method: Its method.
        path: The path, percent-decoded.
        raw_path: The path as it was sent.
        query: What follows the question mark, as it was sent.
        version: ``1.0`` or ``1.1``.
        headers: Names in lower case.
        keeps_alive: Whether the client would send another one over this connection.
        expects_continue: Whether the client waits for a 100 before it sends the body.
        body: What has come of the body and was not taken yet.
        is_complete: Whether that is the rest of it.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    keeps_alive: bool
    expects_continue: bool
    body: list[bytes] = field(factory=list[bytes], repr=False)
    is_complete: bool = False

    def take_body(self) -> bytes:
        """What has come of the body since this was called last."""
        body = b"".join(self.body)
        self.body.clear()
        return body


class RequestReader:
    """Reads the requests of one connection.

    Attributes:
        requests: Those whose heads have come, in order. All but the last one are complete. Whoever answers
            them takes them out.
    """

    __slots__ = (
        "_ended",
        "_fed_of_head",
        "_headers",
        "_in_head",
        "_moved_on",
        "_parser",
        "_reading",
        "_size_of_head",
        "_target",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: deque[Request] = deque()
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._reading: Request | None = None
        # Whether what comes belongs to a head, or to trailers; how much of it httptools has told of; and how
        # much has come since, as it tells nothing of a field before that is complete.
        self._in_head = True
        self._size_of_head = self._fed_of_head = 0
        self._moved_on = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        # Whether no further request can come.
        self._ended = False

    @property
    def is_between(self) -> bool:
        """Whether nothing has come of a further request."""
        return self._reading is None and not self._size_of_head

    def feed(self, data: bytes) -> None:
        """Read on; nothing is the end.

        Raises:
            RequestError: If no request can be made of it. Those before it are in ``requests`` all the same.
        """
        if not data and not self._ended and not self.is_between:
            self.close()
            raise _bad("The request ended before it was complete.")
        rest: bytes | memoryview = data
        while rest and not self._ended and self._parser is not None:
            rest = self._feed(self._parser, rest)

    def _feed(self, parser: httptools.HttpRequestParser, data: bytes | memoryview) -> bytes | memoryview:
        """Read on; returns what has still to be read."""
        self._moved_on = False
        was_between, before = self.is_between, len(self.requests)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade()
            return memoryview(data)[upgrade.args[0] :]
        except httptools.HttpParserCallbackError as error:
            self.close()
            if isinstance(error.__context__, RequestError):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError:
            # What comes after the last request is of no interest.
            was_last = self._ended
            self.close()
            if not was_last:
                raise _bad("This is not a request of HTTP/1.1.") from None
        if self._in_head and (not self._moved_on or (was_between and len(self.requests) == before)):
            self._fed_of_head += len(data)
            if self._fed_of_head > MAX_HEAD:
                self.close()
                raise _too_big()
        return b""

    def _ignore_upgrade(self) -> None:
        """Nothing is spoken here but HTTP/1.1. A body comes all the same, which httptools would not read.

        The HTTP client of Java, for one, wants to go on with HTTP/2 whatever it posts.
        """
        request = self.requests[-1]
        if request.method == "CONNECT":
            self._ended = True  # what follows it may be anything
            return
        self._ended = request.is_complete = False
        self._reading = request
        lines = [b"%b: %b\r\n" % header for header in request.headers if header[0] in _FRAMING]
        if not request.keeps_alive:
            lines.append(b"Connection: close\r\n")
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(lines))

    def close(self) -> None:
        """Read no more. The parser and this would keep each other alive otherwise."""
        self._ended = True
        self._parser = None

    # --- called by httptools ---

    def on_message_begin(self) -> None:
        """A request begins."""
        self._target, self._headers = b"", []
        self._begin_head(1)

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._count(len(name) + len(value) + 3)
        if self._reading is None:
            # httptools leaves the blanks after a value, which are no part of it (RFC 9112, section 5).
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._in_head, self._size_of_head = False, 0
        if self._reading is None and self._parser is not None:
            self._reading = _make_request(self._parser, self._target, self._headers)
            self.requests.append(self._reading)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._in_head = False
        if self._reading is not None:
            self._reading.body.append(body)

    def on_chunk_header(self) -> None:
        """The size of a chunk has come. The last one has no body, but trailers, which are ignored."""
        self._begin_head(0)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._reading is not None:
            self._reading.is_complete = True
            self._ended = not self._reading.keeps_alive
        self._reading = None
        self._size_of_head = 0

    def _begin_head(self, size: int) -> None:
        self._in_head = self._moved_on = True
        self._size_of_head, self._fed_of_head = size, 0

    def _count(self, size: int) -> None:
        self._size_of_head += size
        if self._size_of_head > MAX_HEAD:
            raise _too_big()


def _make_request(
    parser: httptools.HttpRequestParser, target: bytes, headers: list[tuple[bytes, bytes]]
) -> Request:
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise RequestError(505, "version-not-supported", "Speak HTTP/1.1.")
    expects_continue = _check_headers(headers, version)
    method = parser.get_method().decode("ascii")
    if not target.startswith(b"/"):
        target = _origin_form(method, target, headers)
    if b"#" in target:
        raise _bad("A fragment is not sent.")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")  # httptools takes nothing else
    return Request(
        method,
        unquote(path) if "%" in path else path,
        raw_path,
        query,
        version,
        headers,
        parser.should_keep_alive() and method != "CONNECT",
        expects_continue,
    )


def _check_headers(headers: Sequence[tuple[bytes, bytes]], version: str) -> bool:
    """Refuse what could be understood in two ways; returns whether the client waits for a 100."""
    seen: set[bytes] = set()
    expects_continue = False
    for name, value in headers:
        if name in _ONCE and name in seen:
            raise _bad(f"The header {name.decode().title()} may stand there only once.")
        seen.add(name)
        if name == b"host" and not _HOST.fullmatch(value):
            raise _bad("The header Host is not a host.")
        if name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            raise RequestError(501, "not-implemented", "A body comes as it is, or chunked in HTTP/1.1.")
        expects_continue |= name == b"expect" and value.lower() == _CONTINUE and version == "1.1"
    if version == "1.1" and b"host" not in seen:
        raise _bad("The Host header is missing.")
    return expects_continue


def _origin_form(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    """What a target of another form means. Its authority replaces the header (RFC 9112, section 3.2.2)."""
    if method == "CONNECT" or (method == "OPTIONS" and target == b"*"):
        return target  # nothing is there
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute[1]):
        raise _bad("Send the path alone, or the URL.")
    headers[:] = [(b"host", absolute[1]), *(header for header in headers if header[0] != b"host")]
    return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]


def _too_big() -> RequestError:
    return RequestError(431, "head-too-big", f"A request head has at most {MAX_HEAD} bytes.")


def _bad(message: str) -> RequestError:
    return RequestError(400, "bad-request", message)
