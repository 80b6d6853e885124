"""Keys behind a URL: when they are fetched, and what devices are told meanwhile, on a virtual clock."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.protocol import Session
from localful_ws.tokens import JwksLimits, TokenVerifier
from tests.tokens.jwks_issuer import (
    UNKNOWN_KEY,
    Issuer,
    ed_token,
    public,
    rejection,
    slowly,
    token,
    unavailable,
)
from tests.tokens.token_samples import PrivateKey, claims, ec_key, ed_key, hs256, rsa_key, signed


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as entries:
        yield entries


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
    assert issuer.requests[0].method == "GET"
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
    deep = b'{"alg":"EdDSA","more":%b}' % (b"[" * 101 + b"]" * 101)
    assert await rejection(verifier, hs256(claims(), deep)) == "The token is not a JWT."
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


async def test_cancelling_ends_the_background_work(autojump_clock: MockClock) -> None:
    issuer = Issuer(public("k1", ed_key()))
    verifier = issuer.verifier()
    with trio.move_on_after(10_000) as scope:
        await verifier.run()
    assert scope.cancelled_caught
    assert issuer.fetches == [0, 3600, 7200]
    assert (await verifier.verify(ed_token())).user == "u1"
