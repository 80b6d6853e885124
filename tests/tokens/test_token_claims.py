"""What a token must say, case by case (spec/protocol.md, "Access token")."""

from typing import Any

import pytest
import trio

from localful_ws.protocol import Session
from localful_ws.tokens import StaticKeyVerifier, TokenRejectedError, TokenRules, TokenVerifier
from tests.tokens.token_samples import NOW, SECRET, claims, hs256


def make_verifier(rules: TokenRules | None = None, now: float = NOW) -> StaticKeyVerifier:
    return StaticKeyVerifier(SECRET, "HS256", rules or TokenRules(), lambda: now)


async def rejection(token: str, rules: TokenRules | None = None, now: float = NOW) -> str:
    with pytest.raises(TokenRejectedError) as caught:
        await make_verifier(rules, now).verify(token)
    assert str(caught.value) == caught.value.message
    return caught.value.message


async def test_a_good_token_becomes_a_session() -> None:
    assert await make_verifier().verify(hs256(claims())) == Session("u1", "g1", NOW + 600, None)


async def test_a_static_verifier_is_ready_and_has_nothing_to_run() -> None:
    verifier: TokenVerifier = make_verifier()
    assert verifier.ready
    async with trio.open_nursery() as nursery:
        await nursery.start(verifier.run)
    await verifier.run()


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "x" * 128},
        {"gid": "x" * 128},
        {"sub": "\N{GRINNING FACE}é", "gid": "ø"},
        {"iat": NOW},
        {"iat": int(NOW) - 1},
        {"iat": NOW + 10},
        {"nbf": NOW + 10},
        {"nbf": -5},
        {"type": "accessToken"},
        {"exp": NOW + 0.001},
        {"exp": 253_402_300_799},
        {"iss": 5, "aud": {"unchecked": True}},
        {"further": ["claims", {"are": "ignored"}]},
    ],
)
async def test_accepted(changes: dict[str, Any]) -> None:
    said = claims(**changes)
    session = await make_verifier().verify(hs256(said))
    assert session == Session(said["sub"], said["gid"], said["exp"], said.get("iat"))


NO_IDS: list[Any] = [..., None, "", 5, 1.5, True, ["u1"], {"u": 1}, "x" * 129, "\ud800", "a\udfffb"]
NO_TIMES: list[Any] = [
    None,
    True,
    False,
    "1800000000",
    [NOW + 5],
    {},
    10**400,
    -(10**400),
    10**4000,
    1e308,
    NOW * 1000,
]
NO_TIMES += [253_402_300_800, -253_402_300_800]

NO_NUMBER = "The token's {} claim must be a number of Unix seconds, not of milliseconds."
NO_TEXT = "The token's {} claim must be a string of 1 to 128 characters."
NO_ACCESS_TOKEN = "The token is not an access token: its type claim must be accessToken."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({name: value}, NO_TEXT.format(name)) for name in ("sub", "gid") for value in NO_IDS],
        *[({name: value}, NO_NUMBER.format(name)) for name in ("exp", "nbf", "iat") for value in NO_TIMES],
        ({"exp": ...}, "The token has no exp claim; it must expire."),
        ({"exp": NOW}, "The token has expired."),
        ({"exp": int(NOW)}, "The token has expired."),
        ({"exp": 0}, "The token has expired."),
        ({"nbf": NOW + 10.1}, "The token is not valid yet: its nbf claim lies ahead."),
        ({"iat": NOW + 10.1}, "The token was issued in the future: its iat claim lies ahead."),
        ({"type": "refreshToken"}, "This is a refresh token; send the access token."),
        ({"type": "accesstoken"}, NO_ACCESS_TOKEN),
        ({"type": None}, NO_ACCESS_TOKEN),
        ({"type": ["accessToken"]}, NO_ACCESS_TOKEN),
    ],
)
async def test_refused(changes: dict[str, Any], message: str) -> None:
    assert await rejection(hs256(claims(**changes))) == message


async def test_leeway_does_not_lengthen_a_token() -> None:
    rules = TokenRules(leeway=3600)
    token = hs256(claims(exp=NOW))
    assert await rejection(token, rules) == "The token has expired."
    assert (await make_verifier(rules, NOW - 0.001).verify(token)).expires_at == NOW


@pytest.mark.parametrize("nbf_or_iat", ["nbf", "iat"])
async def test_leeway_is_a_rule(nbf_or_iat: str) -> None:
    token = hs256(claims(**{nbf_or_iat: NOW + 5}))
    assert (await make_verifier(TokenRules(leeway=5)).verify(token)).user == "u1"
    assert nbf_or_iat in await rejection(token, TokenRules(leeway=4.9))


@pytest.mark.parametrize("issuer", [..., None, "", "https://other", ["https://issuer"], 7])
async def test_issuer(issuer: object) -> None:
    rules = TokenRules(issuer="https://issuer")
    assert (await make_verifier(rules).verify(hs256(claims(iss="https://issuer")))).user == "u1"
    message = await rejection(hs256(claims(iss=issuer)), rules)
    assert message == "The token's iss claim is not the issuer this server trusts."


@pytest.mark.parametrize("audience", ["ws", ["ws"], ["other", 5, None, "ws"]])
async def test_audience(audience: object) -> None:
    token = hs256(claims(aud=audience))
    assert (await make_verifier(TokenRules(audience="ws")).verify(token)).user == "u1"


@pytest.mark.parametrize("audience", [..., None, "", "wss", [], ["other"], [["ws"]], {"ws": 1}, 5])
async def test_other_audience(audience: object) -> None:
    message = await rejection(hs256(claims(aud=audience)), TokenRules(audience="ws"))
    assert message == "The token's aud claim does not name this server."


async def test_the_group_claim_can_be_another() -> None:
    rules = TokenRules(group_claim="sid")
    assert (await make_verifier(rules).verify(hs256(claims(gid=5, sid="s1")))).group == "s1"
    assert await rejection(hs256(claims()), rules) == NO_TEXT.format("sid")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'"text"',
        b"null",
        b"5",
        b"{",
        b"{}{}",
        b'{"sub":"u1","gid":"g1","exp":1e}',
        b'{"sub":"\xff","gid":"g1","exp":1800000000}',
        '\ufeff{"sub":"u1","gid":"g1","exp":1800000000}'.encode(),
        '{"sub":"u1","gid":"g1","exp":1800000000}'.encode("utf-16"),
        b'{"sub":"u1","gid":"g1","exp":NaN}',
        b'{"sub":"u1","gid":"g1","exp":1800000000,"more":-Infinity}',
        b"[" * 5000,
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
    ],
)
async def test_a_payload_that_is_no_object_of_json(payload: bytes) -> None:
    assert await rejection(hs256(payload)) == "The token's payload is not a JSON object."


async def test_a_long_token_is_not_looked_at() -> None:
    token = hs256(claims())
    assert (await make_verifier(TokenRules(max_token_length=len(token))).verify(token)).user == "u1"
    message = await rejection(token, TokenRules(max_token_length=len(token) - 1))
    assert message == f"The token is longer than {len(token) - 1} characters."
    assert await rejection("x" * 8193) == "The token is longer than 8192 characters."
    assert await rejection("x" * 8192) == "The token is not a JWT."
