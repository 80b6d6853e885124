"""WebSocket URLs."""

import pytest

from localful_ws.client.endpoint import Endpoint, parse_endpoint


@pytest.mark.parametrize(
    ("url", "endpoint", "host_header"),
    [
        ("ws://a.example/v1/sync", Endpoint("a.example", 80, "/v1/sync", tls=False), "a.example"),
        ("wss://a.example", Endpoint("a.example", 443, "/", tls=True), "a.example"),
        ("ws://a.example:443/", Endpoint("a.example", 443, "/", tls=False), "a.example:443"),
        ("ws://127.0.0.1:42102/x?y=1", Endpoint("127.0.0.1", 42102, "/x?y=1", tls=False), "127.0.0.1:42102"),
        ("wss://[::1]:8443/x", Endpoint("::1", 8443, "/x", tls=True), "[::1]:8443"),
    ],
)
def test_a_url_is_taken_apart(url: str, endpoint: Endpoint, host_header: str) -> None:
    assert parse_endpoint(url) == endpoint
    assert endpoint.host_header == host_header


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "http://a.example",
        "ws://",
        "ws:///x",
        "ws://a:port/",
        "ws://[::1/",
        "ws://a/ü",
        "ws://a/b c",
    ],
)
def test_what_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^The URL .*\.$"):
        parse_endpoint(url)
