"""Keys behind a URL: when they are fetched, and what devices are told meanwhile, on a virtual clock."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs
from token_samples import PrivateKey, claims, ec_key, ed_key, hs256, rsa_key, signed
from trio.testing import MockClock

from localful_ws.protocol import Session
from localful_ws.tokens import (
    JwksLimits,
    JwksVerifier,
    TokenRejectedError,
    TokenRules,
    TokenVerifier,
    VerifierUnavailableError,
)
from localful_ws.tokens.jwks import make_http_client

Answer = Callable[[], Awaitable[httpx.Response]]

URL = "https://user:hidden@issuer.example/jwks.json?key=hidden"
UNKNOWN_KEY = "The token is signed with a key that its issuer does not publish."
UNAVAILABLE = "The server cannot check tokens just now; try again later."


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


def public(key_id: str | None, key: PrivateKey) -> dict[str, Any]:
    """A public key as a member of a key set."""
    if isinstance(key, RSAPrivateKey):
        member = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif isinstance(key, EllipticCurvePrivateKey):
        member = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        member = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return member if key_id is None else {**member, "kid": key_id}


class Issuer:
    """A web server with a key set; `fetches` are the moments at which it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys = list(keys)
        self.fetches: list[float] = []
        self.requests: list[httpx.Request] = []
        self.answer: Answer = self.key_set
        self.start = trio.current_time()

    async def key_set(self) -> httpx.Response:
        return httpx.Response(200, json={"keys": self.keys})

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.fetches.append(round(trio.current_time() - self.start, 6))
        return await self.answer()

    def make_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.handle))

    def verifier(self, algorithm: str | None = None, limits: JwksLimits | None = None) -> JwksVerifier:
        return JwksVerifier(
            URL,
            algorithm,
            TokenRules(),
            trio.current_time,
            self.make_client,
            limits=limits,
            jitter=lambda: 1.0,
        )


def slowly(answer: Answer, seconds: float) -> Answer:
    async def slow() -> httpx.Response:
        await trio.sleep(seconds)
        return await answer()

    return slow


def token(key: PrivateKey, algorithm: str, key_id: str | None = None) -> str:
    return signed(key, algorithm, key_id, exp=trio.current_time() + 1_000_000)


def ed_token(key_id: str | None = "k1", key: str = "a") -> str:
    return token(ed_key(key), "EdDSA", key_id)


async def rejection(verifier: TokenVerifier, text: str) -> str:
    with pytest.raises(TokenRejectedError) as caught:
        await verifier.verify(text)
    return caught.value.message


async def unavailable(verifier: TokenVerifier, text: str) -> float:
    """Seconds until the verifier says that it can't tell."""
    before = trio.current_time()
    with pytest.raises(VerifierUnavailableError) as caught:
        await verifier.verify(text)
    assert str(caught.value) == caught.value.message == UNAVAILABLE
    return round(trio.current_time() - before, 6)


async def test_keys_are_fetched_in_the_background(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    issuer.answer = slowly(issuer.key_set, 1)
    verifier: TokenVerifier = issuer.verifier()
    ready = [verifier.ready]
    await nursery.start(verifier.run)
    ready.append(verifier.ready)
    session = await verifier.verify(ed_token())
    assert session.user == "u1"
    assert [*ready, verifier.ready] == [False, False, True]
    assert issuer.fetches == [0]
    assert issuer.requests[0].headers["accept-encoding"] == "identity"
    assert issuer.requests[0].headers["user-agent"].startswith("localful-ws/")


async def test_a_key_is_used_with_its_own_algorithm(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    keys: list[tuple[str, PrivateKey]] = [("RS256", rsa_key()), ("ES256", ec_key()), ("EdDSA", ed_key())]
    verifier = Issuer(*[public(algorithm, key) for algorithm, key in keys]).verifier()
    nursery.start_soon(verifier.run)
    for algorithm, key in keys:
        assert (await verifier.verify(token(key, algorithm, algorithm))).group == "g1"
        for other, _ in keys:
            message = f"The token must be signed with {other}."
            if other != algorithm:
                assert await rejection(verifier, token(key, algorithm, other)) == message
    assert await rejection(verifier, ed_token("EdDSA", "b")) == "The token's signature does not match."


async def test_one_algorithm_may_be_asked_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    verifier = Issuer(public("r", rsa_key()), public("e", ec_key())).verifier("ES256")
    nursery.start_soon(verifier.run)
    assert (await verifier.verify(token(ec_key(), "ES256", "e"))).user == "u1"
    assert (await verifier.verify(token(ec_key(), "ES256"))).user == "u1"
    message = await rejection(verifier, token(rsa_key(), "RS256", "r"))
    assert message == "The token must be signed with ES256."


async def test_what_can_be_refused_at_once_is(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer()
    verifier = issuer.verifier()
    before = trio.current_time()
    assert await rejection(verifier, "x" * 9000) == "The token is longer than 8192 characters."
    assert await rejection(verifier, "no.token.\ud800") == "The token is not a JWT."
    assert await rejection(verifier, hs256(claims(), {"alg": "RS256", "kid": 5})) == "The token is not a JWT."
    message = "The token must be signed with RS256 or ES256 or EdDSA."
    for algorithm in ("HS256", "none", "RS512", None, 5, ["RS256"]):
        assert await rejection(verifier, hs256(claims(), {"alg": algorithm})) == message
    assert await rejection(verifier, hs256(claims(), {})) == message
    assert trio.current_time() == before


async def test_claims_are_checked(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    verifier = Issuer(public("k1", ed_key())).verifier()
    nursery.start_soon(verifier.run)
    expired = signed(ed_key(), "EdDSA", "k1", exp=trio.current_time())
    assert await rejection(verifier, expired) == "The token has expired."


async def test_a_token_without_a_kid(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public(None, ed_key()), {"kty": "oct", "k": "AAAA"})
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    assert (await verifier.verify(ed_token(None))).user == "u1"
    issuer.keys.append(public("k2", ec_key()))
    await trio.sleep(60)
    assert (await verifier.verify(token(ec_key(), "ES256", "k2"))).user == "u1"
    before = trio.current_time()
    message = "The token's header must name the key it is signed with (kid)."
    assert await rejection(verifier, ed_token(None)) == message
    assert trio.current_time() == before
    assert issuer.fetches == [0, 60]


async def test_a_token_waits_for_the_first_fetch(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    issuer.answer = slowly(issuer.key_set, 1.5)
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    before = trio.current_time()
    assert (await verifier.verify(ed_token())).user == "u1"
    assert trio.current_time() - before == pytest.approx(1.5)


async def test_but_not_forever(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    issuer.answer = trio.sleep_forever
    verifier = issuer.verifier()
    assert await unavailable(verifier, ed_token()) == 2
    nursery.start_soon(verifier.run)
    assert await unavailable(verifier, ed_token()) == 2
    assert await unavailable(verifier, ed_token(None)) == 2
    assert not verifier.ready


async def test_an_unknown_kid_fetches_the_keys_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    issuer.keys[:] = [public("k2", ed_key("b"))]
    await trio.sleep(100)
    assert (await verifier.verify(ed_token())).user == "u1"
    assert issuer.fetches == [0]
    assert (await verifier.verify(ed_token("k2", "b"))).user == "u1"
    assert issuer.fetches == [0, 100]
    assert await rejection(verifier, ed_token()) == UNKNOWN_KEY


async def test_at_most_once_a_minute(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    for number in range(600):
        assert await rejection(verifier, ed_token(f"unknown {number}")) == UNKNOWN_KEY
        await trio.sleep(1)
    assert len(issuer.fetches) <= 1 + 600 / 60
    gaps = [later - earlier for earlier, later in zip(issuer.fetches, issuer.fetches[1:], strict=False)]
    assert all(60 <= gap < 62 for gap in gaps)


async def test_a_key_that_appears_within_the_minute_is_known_at_its_end(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    issuer.keys.append(public("k2", ed_key("b")))
    await trio.sleep(30)
    assert await rejection(verifier, ed_token("k2", "b")) == UNKNOWN_KEY
    await trio.sleep(28.5)
    # So close to the end it is worth waiting.
    assert (await verifier.verify(ed_token("k2", "b"))).user == "u1"
    assert issuer.fetches == [0, 60]


async def test_many_unknown_kids_cause_one_fetch(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    await trio.sleep(100)
    issuer.keys.append(public("k2", ed_key("b")))
    issuer.answer = slowly(issuer.key_set, 1)
    sessions: list[Session] = []
    messages: list[str] = []

    async def good() -> None:
        sessions.append(await verifier.verify(ed_token("k2", "b")))

    async def bad(number: int) -> None:
        messages.append(await rejection(verifier, ed_token(f"unknown {number}")))

    async with trio.open_nursery() as devices:
        for number in range(50):
            devices.start_soon(good)
            devices.start_soon(bad, number)
    assert len(sessions) == 50
    assert messages == [UNKNOWN_KEY] * 50
    assert issuer.fetches == [0, 100]


async def test_keys_are_fetched_again_when_old(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier(limits=JwksLimits(max_age=1000))
    nursery.start_soon(verifier.run)
    await verifier.verify(ed_token())
    issuer.keys[:] = [public("k2", ed_key("b"))]
    await trio.sleep(999)
    assert (await verifier.verify(ed_token())).user == "u1"
    await trio.sleep(2)
    assert await rejection(verifier, ed_token()) == UNKNOWN_KEY
    assert issuer.fetches == [0, 1000]


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
    async def answer() -> httpx.Response:
        return httpx.Response(**response)

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
        (answer_with(status_code=200, content=endless()), "the answer is larger than 1048576 bytes"),
        (answer_with(status_code=200, content=trickle()), "no answer within 10 s"),
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
    issuer.answer = answer_with(status_code=200, content=document)
    exact = issuer.verifier(limits=JwksLimits(max_bytes=len(document)))
    smaller = issuer.verifier(limits=JwksLimits(max_bytes=len(document) - 1))
    nursery.start_soon(exact.run)
    nursery.start_soon(smaller.run)
    await trio.sleep(0.5)
    assert exact.ready
    assert not smaller.ready


async def test_cancelling_ends_the_background_work(autojump_clock: MockClock) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    with trio.move_on_after(10_000) as scope:
        await verifier.run()
    assert scope.cancelled_caught
    assert issuer.fetches == [0, 3600, 7200]
    assert (await verifier.verify(ed_token())).user == "u1"


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
        "https://issuer.example:port/",
        "http://xn--a/",
        "https://issuer.example/\x00",
        "https://" + "a" * 70_000,
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match=r"^The URL of the key set must begin with https:// or http:// and"):
        JwksVerifier(url, None, TokenRules(), lambda: 0.0)


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS512", ""])
def test_algorithms_that_cannot_be(algorithm: str) -> None:
    with pytest.raises(
        ValueError, match=r"^With a key set the algorithm must be one of RS256, ES256, EdDSA\.$"
    ):
        JwksVerifier(URL, algorithm, TokenRules(), lambda: 0.0)


async def test_the_usual_client_follows_no_redirect() -> None:
    async with make_http_client() as client:
        assert not client.follow_redirects
