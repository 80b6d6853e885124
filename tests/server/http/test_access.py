"""Who may ask what: the publisher key and the names."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.server.http.access import ANY_HOST, AllowedHosts, PublisherKey

KEY = "the-key-of-the-publisher-\N{SNOWMAN}"


def shown(value: bytes) -> dict[bytes, bytes]:
    return {b"authorization": value}


class TestPublisherKey:
    @pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER    "])
    def test_it_is_shown(self, scheme: str) -> None:
        assert PublisherKey(KEY).is_shown(shown(f"{scheme}{KEY}".encode()))

    @pytest.mark.parametrize(
        "value", ["", "Bearer", "Bearer ", KEY, f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer x{KEY}"]
    )
    def test_it_is_not(self, value: str) -> None:
        assert not PublisherKey(KEY).is_shown(shown(value.encode()))
        assert not PublisherKey(KEY).is_shown({})

    def test_bytes_that_are_no_text(self) -> None:
        assert not PublisherKey(KEY).is_shown(shown(b"Bearer \xff\xfe"))

    async def test_who_shows_it_is_not_refused(self) -> None:
        assert PublisherKey(KEY).refuse({}, shown(f"Bearer {KEY}".encode())) is None

    async def test_refusals_are_logged_now_and_then(self, autojump_clock: MockClock) -> None:
        key = PublisherKey(KEY)
        scope = {"client": ("192.0.2.7", 1234)}
        with capture_logs() as logs:
            for _ in range(4):
                key.refuse(scope, {})
            await trio.sleep(9.9)
            key.refuse(scope, shown(b"Bearer wrong"))
            assert len(logs) == 1
            await trio.sleep(0.2)
            key.refuse({"client": None}, shown(b"Bearer wrong"))
            await trio.sleep(10)
            key.refuse(scope, shown(b"Bearer wrong"))
        missing = "a request without the publisher key was refused"
        wrong = "a request with a wrong publisher key was refused"
        assert [(entry["event"], entry["address"], entry["more_before"]) for entry in logs] == [
            (missing, "192.0.2.7", 0),
            (wrong, None, 4),
            (wrong, "192.0.2.7", 0),
        ]
        assert {entry["log_level"] for entry in logs} == {"warning"}


class TestAllowedHosts:
    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "localhost:42103",
            "LocalHost.:42103",
            "a.localhost",
            "127.0.0.1",
            "127.0.0.1:42103",
            "10.1.2.3:42103",
            "[::1]",
            "[::1]:42103",
            "[fe80::1%eth0]:42103",
            "ws.internal",
            "WS.Internal:42103",
            "ws.internal.:42103",
        ],
    )
    def test_by_these_it_may_be_asked(self, host: str) -> None:
        assert AllowedHosts(["WS.internal"]).allow(host.encode())

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "page.example",
            "page.example:42103",
            "internal",
            "xws.internal",
            "ws.internal.page.example",
            "localhost.page.example",
            "xlocalhost",
            "127.0.0.1.page.example",
            "127.0.0.1@page.example",
            "[page.example]",
            "[]",
            "2130706433",
            "0x7f.1",
            "*",
        ],
    )
    def test_by_others_it_may_not(self, host: str) -> None:
        assert not AllowedHosts(["WS.internal"]).allow(host.encode())

    def test_bytes_that_are_no_text(self) -> None:
        assert not AllowedHosts([]).allow(b"\xff\xfe")

    def test_any_name(self) -> None:
        assert AllowedHosts([ANY_HOST]).allow(b"page.example")

    def test_no_name(self) -> None:
        """No browser leaves it out, and HTTP/1.0 may."""
        assert AllowedHosts([]).allow(None)
