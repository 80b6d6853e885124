"""Keys behind a URL that is away, wrong or hostile, on a virtual clock."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.tokens import JwksLimits, JwksVerifier, TokenRules
from localful_ws.tokens.jwks import make_http_client
from tests.tokens.jwks_issuer import (
    UNKNOWN_KEY,
    URL,
    Answer,
    Issuer,
    ed_token,
    public,
    rejection,
    unavailable,
)
from tests.tokens.token_samples import ed_key


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


async def test_failed_fetches_are_tried_again_with_growing_pauses(
    autojump_clock: MockClock, nursery: trio.Nursery, logs: list[Any]
) -> None:
    issuer = Issuer(public("k1", ed_key()))

    async def down() -> httpx.Response:
        return httpx.Response(503)

    issuer.answer = down
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await trio.sleep(200)
    assert issuer.fetches == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert {entry["reason"] for entry in logs} == {"the answer was HTTP 503"}
    assert {entry["jwks_host"] for entry in logs} == {"issuer.example"}
    assert "hidden" not in repr(logs)
    assert not verifier.ready
    # The next is at 243: no use to wait.
    assert await unavailable(verifier, ed_token()) == 0
    issuer.answer = issuer.key_set
    await trio.sleep(42)
    assert (await verifier.verify(ed_token())).user == "u1"
    assert issuer.fetches[-1] == 243
    assert verifier.ready


async def test_pauses_are_jittered(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer()
    draws = iter([0.0, 0.5, 0.999])
    verifier = JwksVerifier(
        URL, None, TokenRules(), trio.current_time, issuer.make_client, jitter=lambda: next(draws, 0.0)
    )
    nursery.start_soon(verifier.run)
    await trio.sleep(6)
    assert issuer.fetches == [0, 0.5, 2, 5.998]


async def test_known_keys_serve_while_the_issuer_is_away(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    await trio.sleep(100)

    async def down() -> httpx.Response:
        raise httpx.ConnectError("away")

    issuer.answer = down
    assert await unavailable(verifier, ed_token("k2", "b")) == 2
    assert (await verifier.verify(ed_token())).user == "u1"
    assert verifier.ready
    await trio.sleep(300)
    assert (await verifier.verify(ed_token())).user == "u1"
    issuer.answer = issuer.key_set
    await trio.sleep(60)
    assert await rejection(verifier, ed_token("k2", "b")) == UNKNOWN_KEY


async def endless() -> AsyncIterator[bytes]:
    while True:
        await trio.lowlevel.checkpoint()
        yield b" " * 65536


async def trickle() -> AsyncIterator[bytes]:
    while True:
        await trio.sleep(1)
        yield b" "


def answer_with(**response: Any) -> Answer:
    """Answer so; what makes the content is called anew for every answer."""
    content = response.pop("content", None)

    async def answer() -> httpx.Response:
        return httpx.Response(**response, content=content and content())

    return answer


def fail_with(error: Exception, cause: Exception | None = None) -> Answer:
    async def answer() -> httpx.Response:
        raise error from cause

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answer_with(status_code=404), "the answer was HTTP 404"),
        (answer_with(status_code=204), "the answer was HTTP 204"),
        (
            answer_with(status_code=302, headers={"location": "http://other/"}),
            "the answer was HTTP 302",
        ),
        (answer_with(status_code=200, text="<html>"), "the answer is not a JSON Web Key Set"),
        (answer_with(status_code=200, json={"keys": []}), "the key set holds no key that can be used"),
        (
            answer_with(
                status_code=200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f")
            ),
            "the answer is compressed, which was not asked for",
        ),
        (answer_with(status_code=200, content=endless), "the answer is larger than 1048576 bytes"),
        (answer_with(status_code=200, content=trickle), "no answer within 10 s"),
        (trio.sleep_forever, "no answer within 10 s"),
        (fail_with(httpx.ConnectTimeout("")), "ConnectTimeout"),
        (fail_with(httpx.ReadError("reset")), "ReadError: reset"),
        (fail_with(httpx.ConnectError(""), OSError("bad certificate")), "ConnectError: bad certificate"),
        (fail_with(OSError(24, "Too many open files")), "OSError: [Errno 24] Too many open files"),
        (fail_with(UnicodeError("label too long")), "label too long"),
    ],
)
async def test_what_can_go_wrong_with_a_fetch(
    answer: Answer,
    reason: str,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    logs: list[Any],
) -> None:
    issuer = Issuer(public("k1", ed_key()))
    issuer.answer = answer
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await trio.sleep(10.5)
    assert logs[0]["event"] == "key set not fetched"
    assert logs[0]["reason"] == reason
    assert logs[0]["retry_in"] == 1
    issuer.answer = issuer.key_set
    await trio.sleep(60)
    assert (await verifier.verify(ed_token())).user == "u1"
    assert logs[-1] == {
        "event": "key set fetched",
        "log_level": "info",
        "jwks_host": "issuer.example",
        "keys": 1,
    }


async def test_the_size_limit_is_exact(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    document = json.dumps({"keys": [public("k1", ed_key())]}).encode()
    issuer = Issuer()
    issuer.answer = answer_with(status_code=200, content=lambda: document)
    exact = issuer.verifier(limits=JwksLimits(max_bytes=len(document)))
    smaller = issuer.verifier(limits=JwksLimits(max_bytes=len(document) - 1))
    nursery.start_soon(exact.run)
    nursery.start_soon(smaller.run)
    await trio.sleep(0.5)
    assert exact.ready
    assert not smaller.ready


@pytest.mark.parametrize(
    "url",
    [
        "",
        "issuer.example/jwks",
        "ftp://issuer.example/",
        "https://",
        "https:///jwks",
        "https://issuer.example:99999/",
        "https://issuer.example:0/",
        "https://issuer.example:65536/",
        "https://issuer.example:port/",
        "http://xn--a/",
        "https://issuer.example/\x00",
        "https://" + "a" * 70_000,
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match=r"^The URL of the key set must begin with https:// or http:// and"):
        JwksVerifier(url, None, TokenRules(), lambda: 0.0)


@pytest.mark.parametrize(
    "url", ["http://issuer.example/jwks", "https://issuer.example:1/", "HTTP://issuer.example:65535/"]
)
async def test_urls_that_can_be(url: str) -> None:
    assert not JwksVerifier(url, None, TokenRules(), lambda: 0.0).ready


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS512", ""])
def test_algorithms_that_cannot_be(algorithm: str) -> None:
    with pytest.raises(
        ValueError, match=r"^With a key set the algorithm must be one of RS256, ES256, EdDSA\.$"
    ):
        JwksVerifier(URL, algorithm, TokenRules(), lambda: 0.0)


async def test_the_usual_client_follows_no_redirect() -> None:
    async with make_http_client() as client:
        assert client.follow_redirects is False


async def test_the_usual_client_keeps_no_connection_and_has_one_at_most() -> None:
    async with make_http_client() as client:
        transport = client._transport
        assert isinstance(transport, httpx.AsyncHTTPTransport)
        pool = transport._pool
        assert (pool._max_connections, pool._max_keepalive_connections) == (1, 0)
