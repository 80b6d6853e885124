"""Requests as they are read, and what is none (RFC 9110, RFC 9112)."""

import weakref
from contextlib import suppress

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.server.http.requests import MAX_HEAD, RequestError, RequestReader
from tests.server.http.reading import CHUNKED, GET, HOST, NEXT, POST, UPGRADE, Came, feed, read, the_one


class TestOne:
    def test_all_of_it(self) -> None:
        request, body = the_one(
            b"POST /a%20b/%E2%98%83?c=%20&d HTTP/1.1\r\nHost: a:80\r\nX-Y:  z \t\r\nEmpty:\r\nX-Y: \xe9\r\n"
            b"Content-Length: 5\r\n\r\nhello"
        )
        assert (request.method, request.version, body) == ("POST", "1.1", b"hello")
        assert (request.path, request.raw_path) == ("/a b/\N{SNOWMAN}", b"/a%20b/%E2%98%83")
        assert request.query == b"c=%20&d"
        assert request.headers == [
            *((b"host", b"a:80"), (b"x-y", b"z"), (b"empty", b"")),
            *((b"x-y", b"\xe9"), (b"content-length", b"5")),
        ]
        assert request.keeps_alive
        assert not request.expects_continue

    def test_its_headers_are_not_shown_where_it_is_printed(self) -> None:
        request, _ = the_one(GET + b"Authorization: Bearer secret\r\n\r\n")
        assert "secret" not in repr(request)

    def test_as_it_comes(self) -> None:
        reader = RequestReader()
        reader.feed(b"P")
        assert not reader.is_between
        reader.feed(POST[1:] + b"Content-Length: 6\r\n\r\n")
        request = reader.requests[0]
        assert (request.take_body(), request.is_complete) == (b"", False)
        assert not reader.is_between
        reader.feed(b"ab")
        reader.feed(b"cd")
        assert (request.take_body(), request.is_complete) == (b"abcd", False)
        reader.feed(b"ef" + NEXT[:1])
        assert (request.take_body(), request.is_complete) == (b"ef", True)
        assert request.take_body() == b""
        assert list(reader.requests) == [request]
        assert not reader.is_between
        reader.feed(NEXT[1:])
        assert [request.path for request in reader.requests] == ["/", "/next"]
        assert reader.is_between

    @pytest.mark.parametrize(
        ("version", "connection", "keeps_alive"),
        [
            ("1.1", b"", True),
            ("1.1", b"Connection: close\r\n", False),
            ("1.1", b"Connection: keep-alive, Close\r\n", False),
            ("1.1", b"Connection: close\r\nConnection: keep-alive\r\n", False),
            ("1.0", b"", False),
            ("1.0", b"Connection: Keep-Alive\r\n", True),
        ],
    )
    def test_whether_another_may_follow(self, version: str, connection: bytes, *, keeps_alive: bool) -> None:
        head = f"GET / HTTP/{version}\r\n".encode() + HOST + connection + b"\r\n"
        request, _ = the_one(head)
        assert request.keeps_alive is keeps_alive
        assert read(head + NEXT).paths() == (["/", "/next"] if keeps_alive else ["/"])

    @pytest.mark.parametrize("rest", [NEXT, b"\x00", b"\r\n"])
    def test_what_follows_the_last_one_is_ignored(self, rest: bytes) -> None:
        last = GET + b"Connection: close\r\n\r\n"
        came = read(last + rest)
        assert (came.paths(), came.error) == (["/"], None)
        reader = RequestReader()
        reader.feed(last + rest)
        reader.feed(b"")
        assert reader.is_between

    @pytest.mark.parametrize(
        ("version", "value", "expects"),
        [
            ("1.1", b"100-continue", True),
            ("1.1", b"100-Continue ", True),
            ("1.1", b"200-ok", False),
            ("1.0", b"100-continue", False),
        ],
    )
    def test_whether_it_waits_for_a_100(self, version: str, value: bytes, *, expects: bool) -> None:
        request, _ = the_one(f"GET / HTTP/{version}\r\n".encode() + HOST + b"Expect: " + value + b"\r\n\r\n")
        assert request.expects_continue is expects

    def test_version_1_0_needs_no_host_and_has_no_body_without_a_length(self) -> None:
        request, body = the_one(b"POST / HTTP/1.0\r\n\r\nhello")
        assert (request.version, request.headers, body) == ("1.0", [], b"")

    @pytest.mark.parametrize("method", ["DELETE", "HEAD", "QUERY", "PATCH"])
    def test_methods(self, method: str) -> None:
        assert the_one(method.encode() + GET[3:] + b"\r\n")[0].method == method

    def test_nothing_follows_a_tunnel(self) -> None:
        """What came after it would be of another protocol."""
        request, body = the_one(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\n" + NEXT)
        assert (request.path, request.keeps_alive, body) == ("a:80", False, b"")


class TestUpgrade:
    """What one would like to change to is not spoken here. So it is a request like others."""

    @pytest.mark.parametrize(
        ("sent", "body"),
        [
            pytest.param(b"Content-Length: 5\r\n\r\nhello", b"hello", id="length"),
            pytest.param(
                b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello", id="chunked"
            ),
            pytest.param(b"Content-Length: 0\r\n\r\n", b"", id="empty"),
            pytest.param(b"\r\n", b"", id="none"),
        ],
    )
    def test_with_a_body(self, sent: bytes, body: bytes) -> None:
        request, came = the_one(UPGRADE + sent)
        assert (came, request.keeps_alive) == (body, True)
        assert (b"upgrade", b"h2c") in request.headers
        assert read((UPGRADE + sent) * 3 + NEXT).paths() == ["/", "/", "/", "/next"]

    def test_the_last_one(self) -> None:
        request, body = the_one(
            POST + b"Connection: upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" + NEXT
        )
        assert (request.keeps_alive, body) == (False, b"hi")

    def test_many_at_once(self) -> None:
        came = feed([(UPGRADE + b"\r\n") * 2000])
        assert (len(came.requests), came.error) == (2000, None)


class TestErrors:
    def test_what_one_quotes_is_ours(self) -> None:
        with pytest.raises(RequestError) as raised:
            RequestReader().feed(GET + b"Authorization: secret\r\nAuthorization: secret\r\n\r\n")
        assert "secret" not in raised.value.message

    @pytest.mark.parametrize(
        "sent",
        [
            *(b"G", GET, GET + b"X", CHUNKED, CHUNKED + b"5\r\nhe", CHUNKED + b"0\r\nX:"),
            UPGRADE + b"Content-Length: 5\r\n\r\n",
        ],
    )
    def test_the_end_before_its_own(self, sent: bytes) -> None:
        reader = RequestReader()
        reader.feed(sent)
        assert not reader.is_between
        with pytest.raises(RequestError, match="ended before") as raised:
            reader.feed(b"")
        assert raised.value.status == 400
        reader.feed(b"")
        assert not any(request.is_complete for request in reader.requests)

    @pytest.mark.parametrize(
        ("sent", "count"),
        [
            *((b"", 0), (b"\r\n", 0), (b"\r\n\r\n" + NEXT, 1), (NEXT + b"\r\n", 1)),
            *((NEXT + b"\r\n" + NEXT, 2), (CHUNKED + b"0\r\n\r\n", 1)),
        ],
    )
    def test_the_end_between_requests(self, sent: bytes, count: int) -> None:
        reader = RequestReader()
        for data in (sent, b"", b""):
            reader.feed(data)
            assert reader.is_between
        assert len(reader.requests) == count

    def test_closed(self) -> None:
        reader = RequestReader()
        reader.feed(b"G")
        reader.close()
        reader.feed(b"ET")
        reader.feed(b"")
        assert not reader.requests

    def test_what_fails_here_is_no_fault_of_the_client(self) -> None:
        class Failing(RequestReader):
            def on_message_begin(self) -> None:
                raise ZeroDivisionError

        reader = Failing()
        with pytest.raises(httptools.HttpParserCallbackError) as raised:
            reader.feed(NEXT)
        assert isinstance(raised.value.__context__, ZeroDivisionError)
        reader.feed(NEXT)
        assert not reader.requests


PAD = b"X: " + b"x" * 100 + b"\r\n"


def head_of(size: int) -> bytes:
    """A whole head of so many bytes."""
    rest = size - len(GET) - 2
    many, last = divmod(rest, len(PAD))
    return GET + PAD * (many - 1) + b"X: " + b"x" * (last + 100) + b"\r\n\r\n"


class TestSizes:
    @pytest.mark.parametrize("step", [1, 7, 1000, MAX_HEAD])
    def test_a_head_of_the_longest_size(self, step: int) -> None:
        head = head_of(MAX_HEAD)
        assert len(head) == MAX_HEAD
        data = NEXT + head + head + NEXT
        came = feed([data[at : at + step] for at in range(0, len(data), step)])
        assert (came.paths(), came.error) == (["/next", "/", "/", "/next"], None)

    @pytest.mark.parametrize("step", [1, 7, 1000, MAX_HEAD])
    @pytest.mark.parametrize(
        "endless",
        [
            pytest.param(b"GET /" + b"x" * 10 * MAX_HEAD, id="target"),
            pytest.param(GET + b"x" * 10 * MAX_HEAD, id="name"),
            pytest.param(GET + b"X: " + b"x" * 10 * MAX_HEAD, id="value"),
            pytest.param(GET + b"X:" + b" " * 10 * MAX_HEAD, id="blanks"),
            pytest.param(GET + PAD * (MAX_HEAD // 10), id="headers"),
            pytest.param(GET + b"X:\r\n" * (3 * MAX_HEAD), id="small-headers"),
            pytest.param(CHUNKED + b"0\r\n" + PAD * (MAX_HEAD // 10), id="trailers"),
            pytest.param(CHUNKED + b"0\r\nX: " + b"x" * 10 * MAX_HEAD, id="trailer"),
            pytest.param(NEXT + GET + b"X: " + b"x" * 10 * MAX_HEAD, id="value-in-the-second"),
        ],
    )
    def test_an_endless_head(self, endless: bytes, step: int) -> None:
        """Refused at the latest when as much more has come as is fed at a time."""
        pieces = (endless[at : at + step] for at in range(0, len(endless), step))
        assert feed(pieces).error == 431
        fed = len(endless) - sum(map(len, pieces))
        assert MAX_HEAD <= fed <= len(CHUNKED + NEXT + GET) + MAX_HEAD + 2 * step

    def test_a_head_that_comes_with_the_end_of_another_request(self) -> None:
        reader = RequestReader()
        reader.feed(CHUNKED + b"5\r\nhel")
        reader.feed(b"lo\r\n0\r\n\r\n" + head_of(MAX_HEAD)[:-2])
        reader.feed(b"\r\n")
        assert [request.is_complete for request in reader.requests] == [True, True]

    def test_lines_before_a_request_are_not_endless_either(self) -> None:
        assert feed([b"\r\n"] * MAX_HEAD) == Came([], 431)

    def test_a_body_and_its_chunks_may_be_any_size(self) -> None:
        reader = RequestReader()
        reader.feed(CHUNKED)
        for _ in range(MAX_HEAD):
            reader.feed(b"4\r\n")
            reader.feed(b"body")
            reader.feed(b"\r\n")
            assert reader.requests[0].take_body() == b"body"
        reader.feed(b"0\r\n\r\n")
        assert reader.requests[0].is_complete
        assert reader.requests[0].take_body() == b""


class Noted(RequestReader):
    """A reader that can be referred to weakly."""


@pytest.mark.usefixtures("no_garbage_collector")
@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"G", NEXT, CHUNKED + b"5\r\nhe", UPGRADE + b"\r\n" + NEXT),
        GET + b"Connection: close\r\n\r\n" + NEXT,
        *(b"\x00", b"GET / HTTP/2.0\r\n\r\n", GET + b"X: " + b"x" * MAX_HEAD, GET + HOST + b"\r\n"),
    ],
)
def test_nothing_is_left_for_the_garbage_collector(data: bytes) -> None:
    reader = Noted()
    left = weakref.ref(reader)
    with suppress(RequestError):
        reader.feed(data)
    reader.close()
    del reader
    assert left() is None


TOKENS = st.sampled_from([b"a", b"Accept", b"X-Y_z", b"content-type"])
VALUES = st.sampled_from([b"", b"b", b"a, b;q=0.1", b"\xe9" * 20])
BODIES = st.binary(max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, str, bytes]:
    """A good request, its path, and its body."""
    path = draw(st.sampled_from(["/", "/a/b", "/v1/events"]))
    target = draw(st.sampled_from([b"", b"http://h", b"https://[::1]:8"])) + path.encode()
    lines = [b"%b: %b\r\n" % header for header in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=3))]
    if draw(st.booleans()):
        lines.append(b"Upgrade: h2c\r\nConnection: upgrade\r\n")
    body = draw(BODIES)
    match draw(st.sampled_from(["length", "chunked", "none"])):
        case "length":
            lines.append(b"Content-Length: %d\r\n" % len(body))
            sent = body
        case "chunked":
            lines.append(b"Transfer-Encoding: chunked\r\n")
            size = draw(st.integers(1, 40))
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            extension = draw(st.sampled_from([b"", b";a=b"]))
            sent = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
            sent += b"0\r\n" + draw(st.sampled_from([b"", b"T: u\r\n"])) + b"\r\n"
        case _:
            body = sent = b""
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%b\r\n%b" % (target, b"".join(lines), sent), path, body


@given(st.data(), st.lists(requests(), max_size=4), st.binary(max_size=10))
def test_however_it_is_split(data: st.DataObject, sent: list[tuple[bytes, str, bytes]], rest: bytes) -> None:
    """The requests are those that were sent, and what follows them is the same however it comes."""
    good = b"".join(request for request, _, _ in sent)
    stream = good + rest
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = feed([stream])
    assert feed([piece for piece in pieces if piece]) == whole
    ours = whole.requests[: len(sent)]
    assert [(request.path, body) for request, body in ours] == [(path, body) for _, path, body in sent]
    assert all(request.is_complete for request, _ in ours)
