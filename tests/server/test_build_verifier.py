"""From settings to a verifier."""

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from localful_ws.protocol import Session
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings, SettingsError
from localful_ws.tokens import JwksVerifier, TokenRejectedError, mint_token

SECRET = b"a secret of at least thirty-two bytes"
NOW = 1_700_000_000.0


def settings(**values: Any) -> Settings:
    return Settings(**({"publisher_key": "the-key-of-the-publisher"} | values))


async def test_a_secret_verifies_what_the_settings_ask_for() -> None:
    verifier = build_verifier(
        settings(
            jwt_secret=SECRET,
            jwt_issuer="https://api.example",
            jwt_audience="devices",
            group_claim="sid",
            max_token_length=512,
        ),
        lambda: NOW,
    )
    claims: dict[str, Any] = {
        "issuer": "https://api.example",
        "audience": "devices",
        "group_claim": "sid",
    }
    token = mint_token(SECRET, "ada", "phone", 60, NOW, **claims)
    assert await verifier.verify(token) == Session("ada", "phone", NOW + 60, NOW)
    wrong = [
        mint_token(SECRET, "ada", "phone", 60, NOW, **claims | {"issuer": "https://other.example"}),
        mint_token(SECRET, "ada", "phone", 60, NOW, **claims | {"audience": "others"}),
        mint_token(SECRET, "ada", "phone", 60, NOW, **claims | {"group_claim": "gid"}),
        mint_token(SECRET, "a" * 128, "b" * 128, 60, NOW, **claims | {"issuer": "c" * 128}),
        mint_token(b"x" * 32, "ada", "phone", 60, NOW, **claims),
    ]
    for token in wrong:
        with pytest.raises(TokenRejectedError):
            await verifier.verify(token)


@pytest.mark.parametrize(("leeway", "holds"), [(10.0, True), (5.0, False)])
async def test_the_leeway_is_that_of_the_settings(leeway: float, holds: bool) -> None:  # noqa: FBT001
    verifier = build_verifier(settings(jwt_secret=SECRET, jwt_leeway=leeway), lambda: NOW)
    token = mint_token(SECRET, "ada", "phone", 60, NOW + 8)
    if holds:
        assert (await verifier.verify(token)).user == "ada"
    else:
        with pytest.raises(TokenRejectedError):
            await verifier.verify(token)


async def test_a_public_key_brings_its_algorithm() -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    verifier = build_verifier(settings(jwt_public_key=pem), lambda: NOW)
    token = jwt.encode({"sub": "ada", "gid": "phone", "exp": int(NOW) + 60}, key, "EdDSA")
    assert (await verifier.verify(token)).group == "phone"


def test_a_url_brings_a_key_set() -> None:
    verifier = build_verifier(settings(jwks_url="https://api.example/jwks"), lambda: NOW)
    assert isinstance(verifier, JwksVerifier)
    assert not verifier.ready


def pem_of_rsa(bits: int) -> bytes:
    key = generate_private_key(65537, bits).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"jwt_public_key": b"-----BEGIN PUBLIC KEY-----\n"}, "jwt-public-key-file: This is no public key"),
        ({"jwt_public_key": pem_of_rsa(1024)}, "jwt-public-key-file: The RSA key has 1024 bits"),
        (
            {"jwt_public_key": pem_of_rsa(2048), "jwt_algorithm": "ES256"},
            "jwt-public-key-file: This public key is for RS256, not for ES256.",
        ),
        (
            {
                "jwt_public_key": Ed25519PrivateKey.generate().private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
                )
            },
            "jwt-public-key-file: This is a private key, which the server must not have",
        ),
        ({"jwt_secret": pem_of_rsa(2048)}, "jwt-secret: The secret is a public key"),
    ],
)
def test_a_key_that_cannot_be_used_is_a_wrong_setting(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        build_verifier(settings(**values), lambda: NOW)
    assert str(caught.value).startswith(sentence)
