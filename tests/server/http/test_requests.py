"""Requests as they are read, and what is none (RFC 9110, RFC 9112)."""

import gc
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import httptools
import pytest
from attrs import astuple, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.server.http.requests import MAX_HEAD, Request, RequestError, RequestReader

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def _values(requests: list[tuple[Request, bytes]]) -> object:
    return [(astuple(request), body) for request, body in requests]


@frozen
class Came:
    """What came of some bytes: requests with their bodies, and the status of the error after them."""

    requests: list[tuple[Request, bytes]] = field(eq=_values)
    error: int | None = None

    def paths(self) -> list[str]:
        return [request.path for request, _ in self.requests]


def feed(pieces: Iterable[bytes]) -> Came:
    """Give pieces to a reader; their bodies are taken once all have come."""
    reader, error = RequestReader(), None
    try:
        for piece in pieces:
            reader.feed(piece)
    except RequestError as refused:
        error = refused.status
    return Came([(request, request.take_body()) for request in reader.requests], error)


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


def error_of(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as raised:
        RequestReader().feed(data)
    return raised.value


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

    def test_lines_before_it(self) -> None:
        reader = RequestReader()
        reader.feed(b"\r\n\r\n")
        assert reader.is_between
        reader.feed(NEXT + b"\r\n")
        assert reader.is_between
        reader.feed(NEXT)
        assert len(reader.requests) == 2

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

    def test_it_is_not_complete_before_its_body(self) -> None:
        reader = RequestReader()
        reader.feed(UPGRADE + b"Content-Length: 5\r\n\r\n")
        assert not reader.requests[0].is_complete
        assert not reader.is_between
        with pytest.raises(RequestError, match="ended before"):
            reader.feed(b"")

    def test_the_last_one(self) -> None:
        request, body = the_one(
            POST + b"Connection: upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" + NEXT
        )
        assert (request.keeps_alive, body) == (False, b"hi")

    def test_many_at_once(self) -> None:
        came = feed([(UPGRADE + b"\r\n") * 2000])
        assert (len(came.requests), came.error) == (2000, None)

    def test_a_body_that_is_wrong(self) -> None:
        came = read(UPGRADE + b"Transfer-Encoding: chunked\r\n\r\nx")
        assert (came.error, came.requests[0][0].is_complete) == (400, False)


class TestForms:
    """Forms that some readers take for one thing and some for another (request smuggling)."""

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400, id="both"),
            pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400, id="both-other-order"),
            pytest.param(b"Content-Length: 5\r\nContent-Length: 6", 400, id="lengths"),
            pytest.param(b"Content-Length: 5\r\nContent-Length: 5", 400, id="lengths-that-agree"),
            pytest.param(b"Content-Length: 5, 5", 400, id="list-of-lengths"),
            pytest.param(b"Content-Length:", 400, id="length-empty"),
            pytest.param(b"Content-Length: +5", 400, id="length-plus"),
            pytest.param(b"Content-Length: -5", 400, id="length-minus"),
            pytest.param(b"Content-Length: 0x5", 400, id="length-hex"),
            pytest.param(b"Content-Length: 5_0", 400, id="length-underscore"),
            pytest.param(b"Content-Length: 5 0", 400, id="length-space"),
            pytest.param(b"Content-Length: 5\x0b", 400, id="length-vertical-tab"),
            pytest.param(b"Content-Length: \xd9\xa5", 400, id="length-arabic"),
            pytest.param(b"Content-Length: 18446744073709551616", 400, id="length-65-bits"),
            pytest.param(b"Transfer-Encoding: chunked, gzip", 400, id="coding-after-chunked"),
            pytest.param(b"Transfer-Encoding: chunked, identity", 400, id="identity-after-chunked"),
            pytest.param(b"Transfer-Encoding: \x0bchunked", 400, id="coding-vertical-tab"),
            pytest.param(b"Transfer-Encoding : chunked", 400, id="blank-before-colon"),
            pytest.param(b"Transfer-Encoding\t: chunked", 400, id="tab-before-colon"),
            pytest.param(b"Transfer-Encoding: x\r\n chunked", 400, id="folded"),
            pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", 400, id="codings"),
            pytest.param(b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", 501, id="codings-this-last"),
            pytest.param(b"Transfer-Encoding: x", 501, id="coding-unknown"),
            pytest.param(b"Transfer-Encoding: xchunked", 501, id="coding-almost"),
            pytest.param(b"Transfer-Encoding: gzip, chunked", 501, id="codings-in-one"),
            pytest.param(b"Transfer-Encoding: chunked, chunked", 400, id="chunked-twice-in-one"),
            pytest.param(b"Transfer-Encoding: identity", 501, id="coding-identity"),
            pytest.param(b"Transfer-Encoding: chunked;q=1", 501, id="coding-with-parameter"),
            pytest.param(b'Transfer-Encoding: "chunked"', 501, id="coding-quoted"),
            pytest.param(b"X: a\r\n b", 400, id="obs-fold"),
            pytest.param(b"X: a\r\n\tContent-Length: 5", 400, id="obs-fold-of-a-header"),
            pytest.param(b"X: a\nContent-Length: 5", 400, id="bare-lf"),
            pytest.param(b"X: a\rContent-Length: 5", 400, id="bare-cr"),
            pytest.param(b"X: a\0b", 400, id="nul-in-value"),
            pytest.param(b"X\0: a", 400, id="nul-in-name"),
            pytest.param(b"X: \x1f", 400, id="control-in-value"),
            pytest.param(b"X", 400, id="no-colon"),
            pytest.param(b": x", 400, id="no-name"),
            pytest.param(b"X(: x", 400, id="no-token"),
            pytest.param(b"Host: a", 400, id="host-twice"),
            pytest.param(b"Authorization: a\r\nauthorization: b", 400, id="keys"),
            pytest.param(b"Origin: a\r\nOrigin: b", 400, id="origins"),
        ],
    )
    def test_refused_headers(self, headers: bytes, status: int) -> None:
        came = read(POST + headers + b"\r\n\r\n" + NEXT)
        assert (came.requests, came.error) == ([], status)

    def test_an_empty_coding(self) -> None:
        """By httptools, or by us, as its version is."""
        assert error_of(POST + b"Transfer-Encoding:\r\n\r\n").status in (400, 501)

    @pytest.mark.parametrize(
        ("headers", "body"),
        [
            pytest.param(b"Content-Length: 05\r\n\r\nhello", b"hello", id="length-leading-zero"),
            pytest.param(b"Content-Length:\t5 \r\n\r\nhello", b"hello", id="length-blanks"),
            pytest.param(b"cOnTeNt-lEnGtH: 5\r\n\r\nhello", b"hello", id="length-any-case"),
            pytest.param(b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", b"", id="coding-any-case"),
            pytest.param(b"Transfer-Encoding: \tchunked \r\n\r\n0\r\n\r\n", b"", id="coding-blanks"),
            pytest.param(b"Content_Length: 5\r\nXContent-Length: 5\r\n\r\n", b"", id="other-names"),
        ],
    )
    def test_taken_headers(self, headers: bytes, body: bytes) -> None:
        came = read(POST + headers + NEXT)
        assert came.error is None
        assert came.paths() == ["/", "/next"]
        assert came.requests[0][1] == body

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"5 \r\nhello\r\n0\r\n\r\n", id="blank-after-size"),
            pytest.param(b" 5\r\nhello\r\n0\r\n\r\n", id="blank-before-size"),
            pytest.param(b"0x5\r\nhello\r\n0\r\n\r\n", id="prefix"),
            pytest.param(b"+5\r\nhello\r\n0\r\n\r\n", id="plus"),
            pytest.param(b"-5\r\nhello\r\n0\r\n\r\n", id="minus"),
            pytest.param(b"g\r\n", id="no-number"),
            pytest.param(b"\r\n", id="no-size"),
            pytest.param(b"5\nhello\r\n0\r\n\r\n", id="lf-after-size"),
            pytest.param(b"5\rhello\r\n0\r\n\r\n", id="cr-after-size"),
            pytest.param(b"5\r\nhello\n0\r\n\r\n", id="lf-after-chunk"),
            pytest.param(b"5\r\nhello0\r\n\r\n", id="nothing-after-chunk"),
            pytest.param(b"5\r\nhello!\r\n0\r\n\r\n", id="chunk-too-long"),
            pytest.param(b"0\r\n\n", id="lf-at-the-end"),
            pytest.param(b"10000000000000000\r\nhello", id="size-65-bits"),
            pytest.param(b"5;\r\nhello\r\n0\r\n\r\n", id="extension-empty"),
            pytest.param(b"5 ;a\r\nhello\r\n0\r\n\r\n", id="blank-before-extension"),
            pytest.param(b"5;a\nhello\r\n0\r\n\r\n", id="extension-lf"),
            pytest.param(b"5;a\rb\r\nhello\r\n0\r\n\r\n", id="extension-cr"),
            pytest.param(b"5;a\0\r\nhello\r\n0\r\n\r\n", id="extension-nul"),
            pytest.param(b'5;a="\r\nhello\r\n0\r\n\r\n', id="extension-open-quote"),
            pytest.param(b"0\r\nX y\r\n\r\n", id="trailer-no-colon"),
            pytest.param(b"0\r\nX: y\r\n z\r\n\r\n", id="trailer-folded"),
            pytest.param(b"0\r\nContent-Length: 3\r\n\r\n", id="trailer-length"),
            pytest.param(b"0\r\nTransfer-Encoding: chunked\r\n\r\n", id="trailer-coding"),
        ],
    )
    def test_refused_chunks(self, sent: bytes) -> None:
        came = read(CHUNKED + sent + NEXT)
        assert came.error == 400
        ((request, _),) = came.requests
        assert not request.is_complete

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"5\r\nhello\r\n0\r\n\r\n", id="one"),
            pytest.param(b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", id="two"),
            pytest.param(b"005\r\nhello\r\n000\r\n\r\n", id="zeros"),
            pytest.param(b"0000000000000000000005\r\nhello\r\n0\r\n\r\n", id="many-zeros"),
            pytest.param(b'5;a;b=c;d="e f;"\r\nhello\r\n0;x\r\n\r\n', id="extensions"),
            pytest.param(b"5\r\nhello\r\n0\r\nHost: evil\r\nX: y\r\n\r\n", id="trailers"),
        ],
    )
    def test_taken_chunks(self, sent: bytes) -> None:
        came = read(CHUNKED + sent + NEXT)
        assert (came.error, came.paths()) == (None, ["/", "/next"])
        request, body = came.requests[0]
        assert body == b"hello"
        assert request.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]

    @pytest.mark.parametrize(
        ("line", "status"),
        [
            pytest.param(b" GET / HTTP/1.1\r\n", 400, id="blank-before"),
            pytest.param(b"GET\t/ HTTP/1.1\r\n", 400, id="tab"),
            pytest.param(b"GET /\tHTTP/1.1\r\n", 400, id="tab-after-target"),
            pytest.param(b"GET /a b HTTP/1.1\r\n", 400, id="blank-in-target"),
            pytest.param(b"GET / HTTP/1.1 \r\n", 400, id="blank-at-the-end"),
            pytest.param(b"GET / HTTP/1.1 x\r\n", 400, id="more"),
            pytest.param(b"GET / HTTP/1.1\n", 400, id="lf"),
            pytest.param(b"GET / HTTP/1.1\r", 400, id="cr"),
            pytest.param(b"GET / HTTP/1.1\r\n ", 400, id="blank-before-headers"),
            pytest.param(b"GET / http/1.1\r\n", 400, id="protocol-lower-case"),
            pytest.param(b"GET / HTTP/11\r\n", 400, id="version-no-dot"),
            pytest.param(b"GET / HTTP/1.01\r\n", 400, id="version-too-long"),
            pytest.param(b"GET / HTTP/1.2\r\n", 400, id="version-1.2"),
            pytest.param(b"GET / HTTP/3.0\r\n", 400, id="version-3.0"),
            pytest.param(b"GET / HTTP/2.0\r\n", 505, id="version-2.0"),
            pytest.param(b"GET / HTTP/0.9\r\n", 505, id="version-0.9"),
            pytest.param(b"GET /\r\n", 505, id="version-none"),
            pytest.param(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 501, id="chunked-in-1.0"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 400, id="http-2-preface"),
            pytest.param(b"get / HTTP/1.1\r\n", 400, id="method-lower-case"),
            pytest.param(b"SMUGGLE / HTTP/1.1\r\n", 400, id="method-unknown"),
            pytest.param(b"GET HTTP/1.1\r\n", 400, id="no-target"),
            pytest.param(b"GET /\0 HTTP/1.1\r\n", 400, id="nul-in-target"),
            pytest.param(b"GET /\xff HTTP/1.1\r\n", 400, id="target-not-ascii"),
            pytest.param(b"GET /a#b HTTP/1.1\r\n", 400, id="fragment"),
            pytest.param(b"GET /?a#b HTTP/1.1\r\n", 400, id="fragment-after-query"),
            pytest.param(b"GET * HTTP/1.1\r\n", 400, id="asterisk"),
            pytest.param(b"GET a:80 HTTP/1.1\r\n", 400, id="authority"),
            pytest.param(b"GET http://u@a/ HTTP/1.1\r\n", 400, id="userinfo"),
            pytest.param(b"GET http:///a HTTP/1.1\r\n", 400, id="no-authority"),
            pytest.param(b"GET ftp://a/ HTTP/1.1\r\n", 400, id="scheme"),
            pytest.param(b"GET http://[::1/ HTTP/1.1\r\n", 400, id="bracket"),
            pytest.param(b"GET http://a:b/ HTTP/1.1\r\n", 400, id="no-port"),
        ],
    )
    def test_refused_lines(self, line: bytes, status: int) -> None:
        came = read(line + HOST + b"\r\n" + NEXT)
        assert (came.requests, came.error) == ([], status)

    @pytest.mark.parametrize(
        ("line", "path", "query", "host"),
        [
            pytest.param(b"GET  /a  HTTP/1.1", "/a", b"", b"a", id="blanks"),
            pytest.param(b"GET //b/c HTTP/1.1", "//b/c", b"", b"a", id="slashes"),
            pytest.param(b"GET /a?b?c HTTP/1.1", "/a", b"b?c", b"a", id="question-marks"),
            pytest.param(b"GET /a? HTTP/1.1", "/a", b"", b"a", id="empty-query"),
            pytest.param(b"GET /../%2e%2f%zz HTTP/1.1", "/.././%zz", b"", b"a", id="escapes"),
            pytest.param(b"OPTIONS * HTTP/1.1", "*", b"", b"a", id="asterisk"),
            pytest.param(b"GET http://b HTTP/1.1", "/", b"", b"b", id="absolute"),
            pytest.param(b"GET http://b/c/d?e HTTP/1.1", "/c/d", b"e", b"b", id="absolute-path"),
            pytest.param(b"GET http://b?e/f HTTP/1.1", "/", b"e/f", b"b", id="absolute-query"),
            pytest.param(b"GET HTTPS://b:8/c HTTP/1.1", "/c", b"", b"b:8", id="absolute-port"),
            pytest.param(b"GET http://[::1]:8/ HTTP/1.1", "/", b"", b"[::1]:8", id="absolute-ipv6"),
            # httptools does not tell which protocol was named.
            pytest.param(b"GET / RTSP/1.1", "/", b"", b"a", id="other-protocol"),
        ],
    )
    def test_taken_lines(self, line: bytes, path: str, query: bytes, host: bytes) -> None:
        request, _ = the_one(line + b"\r\n" + HOST + b"X: y\r\n\r\n")
        assert (request.path, request.query) == (path, query)
        assert request.headers == [(b"host", host), (b"x", b"y")]

    @pytest.mark.parametrize(
        "host", [b"a b", b"a/b", b"u@a", b"a:b", b"a:8:9", b"[::1]a", b"[::1", b"::1", b"[]", b"\xc3\xa9"]
    )
    def test_refused_hosts(self, host: bytes) -> None:
        came = read(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert (came.requests, came.error) == ([], 400)

    @pytest.mark.parametrize(
        "host", [b"", b"a", b"a:", b"a_b.c-d.:80", b"127.0.0.1:8081", b"[::1]", b"[fe80::1%25eth0]:80"]
    )
    def test_taken_hosts(self, host: bytes) -> None:
        request, _ = the_one(b"GET / HTTP/1.1\r\nHost: " + host + b" \r\n\r\n")
        assert request.headers == [(b"host", host)]

    @pytest.mark.parametrize("host", [b"", b"a:b/c"])
    def test_a_host_must_be_there_also_with_a_url(self, host: bytes) -> None:
        header = b"Host: " + host + b"\r\n" if host else b""
        assert error_of(b"GET http://b/ HTTP/1.1\r\n" + header + b"\r\n").status == 400


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "status", "identifier"),
        [
            (b"\x16\x03\x01", 400, "bad-request"),
            (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request"),
            (b"GET /\r\n\r\n", 505, "version-not-supported"),
            (POST + b"Transfer-Encoding: x\r\n\r\n", 501, "not-implemented"),
            (GET + b"X: " + b"x" * MAX_HEAD, 431, "head-too-big"),
        ],
    )
    def test_what_one_says(self, data: bytes, status: int, identifier: str) -> None:
        error = error_of(data)
        assert (error.status, error.identifier) == (status, identifier)
        assert error.message == str(error)
        assert error.message.endswith(".")

    def test_what_it_quotes_is_ours(self) -> None:
        assert (
            "secret" not in error_of(GET + b"Authorization: secret\r\nAuthorization: secret\r\n\r\n").message
        )

    def test_requests_before_it_are_had(self) -> None:
        came = read(NEXT + POST + b"Content-Length: 2\r\n\r\nhi" + b"\x00")
        assert (came.paths(), came.error) == (["/next", "/"], 400)
        assert came.requests[1][1] == b"hi"
        assert all(request.is_complete for request, _ in came.requests)

    def test_nothing_is_read_after_it(self) -> None:
        reader = RequestReader()
        with pytest.raises(RequestError):
            reader.feed(b"\x00")
        for data in (NEXT, b"\x00", b""):
            reader.feed(data)
        assert not reader.requests

    @pytest.mark.parametrize(
        "sent", [b"G", GET, GET + b"X", CHUNKED, CHUNKED + b"5\r\nhe", CHUNKED + b"0\r\nX:"]
    )
    def test_the_end_before_its_own(self, sent: bytes) -> None:
        reader = RequestReader()
        reader.feed(sent)
        with pytest.raises(RequestError, match="ended before") as raised:
            reader.feed(b"")
        assert raised.value.status == 400
        reader.feed(b"")

    @pytest.mark.parametrize("sent", [b"", b"\r\n", NEXT, NEXT + b"\r\n", CHUNKED + b"0\r\n\r\n"])
    def test_the_end_between_requests(self, sent: bytes) -> None:
        reader = RequestReader()
        for data in (sent, b"", b""):
            reader.feed(data)
        assert reader.is_between

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


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Noted(RequestReader):
    """A reader that can be referred to weakly."""


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"G", NEXT, CHUNKED + b"5\r\nhe", UPGRADE + b"\r\n" + NEXT),
        GET + b"Connection: close\r\n\r\n" + NEXT,
        *(b"\x00", b"GET / HTTP/2.0\r\n\r\n", GET + b"X: " + b"x" * MAX_HEAD, GET + HOST + b"\r\n"),
    ],
)
def test_nothing_is_left_for_the_garbage_collector(data: bytes) -> None:
    with without_collector():
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
