"""Forms of requests that some readers take for one thing and some for another (request smuggling)."""

import pytest

from tests.server.http.reading import CHUNKED, HOST, NEXT, POST, UPGRADE, read, the_one


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
def test_refused_headers(headers: bytes, status: int) -> None:
    came = read(POST + headers + b"\r\n\r\n" + NEXT)
    assert (came.requests, came.error) == ([], status)


def test_an_empty_coding() -> None:
    """By httptools, or by us, as its version is."""
    assert read(POST + b"Transfer-Encoding:\r\n\r\n").error in (400, 501)


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
def test_taken_headers(headers: bytes, body: bytes) -> None:
    came = read(POST + headers + NEXT)
    assert (came.error, came.paths()) == (None, ["/", "/next"])
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
@pytest.mark.parametrize("head", [CHUNKED, UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n"])
def test_refused_chunks(head: bytes, sent: bytes) -> None:
    came = read(head + sent + NEXT)
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
def test_taken_chunks(sent: bytes) -> None:
    came = read(CHUNKED + sent + NEXT)
    assert (came.error, came.paths()) == (None, ["/", "/next"])
    request, body = came.requests[0]
    assert body == b"hello"
    assert request.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param(b"\x16\x03\x01", 400, id="tls"),
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
def test_refused_lines(line: bytes, status: int) -> None:
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
def test_taken_lines(line: bytes, path: str, query: bytes, host: bytes) -> None:
    request, _ = the_one(line + b"\r\n" + HOST + b"X: y\r\n\r\n")
    assert (request.path, request.query) == (path, query)
    assert request.headers == [(b"host", host), (b"x", b"y")]


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"u@a", b"a:b", b"a:8:9", b"[::1]a", b"[::1", b"::1", b"[]", b"\xc3\xa9"]
)
def test_refused_hosts(host: bytes) -> None:
    came = read(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert (came.requests, came.error) == ([], 400)


@pytest.mark.parametrize(
    "host", [b"", b"a", b"a:", b"a_b.c-d.:80", b"127.0.0.1:8081", b"[::1]", b"[fe80::1%25eth0]:80"]
)
def test_taken_hosts(host: bytes) -> None:
    request, _ = the_one(b"GET / HTTP/1.1\r\nHost: " + host + b" \r\n\r\n")
    assert request.headers == [(b"host", host)]


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1", b"GET http://b/ HTTP/1.1", b"GET http://b/ HTTP/1.1\r\nHost: a:b/c"]
)
def test_a_host_must_be_there_also_with_a_url(head: bytes) -> None:
    assert read(head + b"\r\n\r\n").error == 400
