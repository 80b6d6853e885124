"""Tokens of our own making."""

import base64
from typing import Any

import jwt
import pytest

from localful_ws.protocol import Session
from localful_ws.tokens import StaticKeyVerifier, TokenRules, mint_token
from tests.tokens.token_samples import NOW, SECRET


def read(token: str) -> dict[str, Any]:
    content: dict[str, Any] = jwt.decode(token, SECRET, ["HS256"], options={"verify_signature": False})
    return content


async def test_a_minted_token_holds() -> None:
    token = mint_token(SECRET, "u1", "g1", 60, NOW)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert read(token) == {
        "sub": "u1",
        "gid": "g1",
        "type": "accessToken",
        "iat": 1_700_000_000,
        "exp": 1_700_000_060,
    }
    verifier = StaticKeyVerifier(SECRET, "HS256", TokenRules(), lambda: NOW + 59.9)
    assert await verifier.verify(token) == Session("u1", "g1", NOW + 60, NOW)


async def test_with_every_claim() -> None:
    rules = TokenRules(issuer="i", audience="a", group_claim="sid")
    token = mint_token(
        SECRET, "ø", "\N{GRINNING FACE}", 1.5, NOW, issuer="i", audience="a", group_claim="sid"
    )
    verifier = StaticKeyVerifier(SECRET, "HS256", rules, lambda: NOW)
    assert await verifier.verify(token) == Session("ø", "\N{GRINNING FACE}", NOW + 1.5, NOW)
    assert "gid" not in read(token)


def test_a_minted_token_is_no_longer_than_it_must_be() -> None:
    # It may have to fit into a subprotocol, in a header.
    payload = mint_token(SECRET, "u1", "g1", 60, NOW).split(".")[1]
    assert b" " not in base64.urlsafe_b64decode(payload + "==")


def test_whole_seconds_are_written_as_such() -> None:
    assert [type(read(mint_token(SECRET, "u", "g", 60, NOW))[name]) for name in ("iat", "exp")] == [int, int]
    assert read(mint_token(SECRET, "u", "g", 0.5, NOW))["exp"] == NOW + 0.5


@pytest.mark.parametrize("bad", ["", "x" * 129, "\ud800"])
def test_ids_that_no_server_would_take(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^The user must be a string of 1 to 128 characters\.$"):
        mint_token(SECRET, bad, "g1", 60, NOW)
    with pytest.raises(ValueError, match=r"^The group must be a string of 1 to 128 characters\.$"):
        mint_token(SECRET, "u1", bad, 60, NOW)


def test_a_short_secret() -> None:
    with pytest.raises(ValueError, match=r"^The secret has 5 bytes"):
        mint_token(b"short", "u1", "g1", 60, NOW)
