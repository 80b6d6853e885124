"""Which keys may check tokens, with which algorithm, and what else is refused about a signature."""

import itertools
import re
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat

from localful_ws.tokens import (
    ALGORITHMS,
    StaticKeyVerifier,
    TokenRejectedError,
    TokenRules,
    load_public_key,
)
from tests.tokens.token_samples import (
    NOW,
    SECRET,
    PrivateKey,
    base64url,
    claims,
    ec_key,
    ed_key,
    hs256,
    private_pem,
    public_pem,
    rsa_key,
    signed,
)

PAIRS: list[tuple[str, PrivateKey]] = [("RS256", rsa_key()), ("ES256", ec_key()), ("EdDSA", ed_key())]
OTHER_KEYS: dict[str, PrivateKey] = {"RS256": rsa_key("b"), "ES256": ec_key("b"), "EdDSA": ed_key("b")}
RULES = TokenRules()


def verifier(key: Any, algorithm: str) -> StaticKeyVerifier:
    return StaticKeyVerifier(key, algorithm, RULES, lambda: NOW)


def secret_verifier() -> StaticKeyVerifier:
    return verifier(SECRET, "HS256")


async def rejection(a_verifier: StaticKeyVerifier, token: str) -> str:
    with pytest.raises(TokenRejectedError) as caught:
        await a_verifier.verify(token)
    return caught.value.message


@pytest.mark.parametrize(("algorithm", "key"), PAIRS)
async def test_a_public_key_checks_tokens(algorithm: str, key: PrivateKey) -> None:
    loaded, own = load_public_key(public_pem(key))
    assert own == algorithm
    assert (await verifier(loaded, own).verify(signed(key, algorithm))).group == "g1"
    forged = signed(OTHER_KEYS[algorithm], algorithm)
    assert await rejection(verifier(loaded, own), forged) == "The token's signature does not match."


@pytest.mark.parametrize(("algorithm", "key"), PAIRS)
async def test_a_token_does_not_choose_its_algorithm(algorithm: str, key: PrivateKey) -> None:
    checks = verifier(load_public_key(public_pem(key))[0], algorithm)
    message = f"The token must be signed with {algorithm}."
    secret = public_pem(key)
    assert await rejection(checks, hs256(claims(), secret=secret)) == message
    assert await rejection(checks, hs256(claims(), secret=secret.strip())) == message
    assert await rejection(checks, jwt.encode(claims(), "", "none")) == message
    for other, its_key in PAIRS:
        if other != algorithm:
            assert await rejection(checks, signed(its_key, other)) == message
            assert await rejection(secret_verifier(), signed(its_key, other)) == (
                "The token must be signed with HS256."
            )


def test_the_algorithm_of_the_settings_must_be_the_keys() -> None:
    for (own, key), asked in itertools.product(PAIRS, [*ALGORITHMS, "none", "RS384", ""]):
        if own == asked:
            assert load_public_key(public_pem(key), asked)[1] == own
            continue
        with pytest.raises(ValueError, match=rf"^This public key is for {own}, not for {asked}\.$"):
            load_public_key(public_pem(key), asked)


OTHER_KIND = r"^A public key must be RSA, EC on P-256, or Ed25519\.$"
PRIVATE = (
    r"^This is a private key, which the server must not have; "
    r"extract the public one with: openssl pkey -in private\.pem -pubout$"
)
CERTIFICATE = (
    r"^This is a certificate; extract its public key with: openssl x509 -in cert\.pem -pubkey -noout$"
)
NO_PEM = r"^This is no public key in PEM format"


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (public_pem(rsa_key(bits=1024)), r"^The RSA key has 1024 bits and needs at least 2048\.$"),
        (public_pem(ec.generate_private_key(ec.SECP384R1())), r"curve secp384r1; ES256 needs P-256\.$"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), r"curve secp256k1; ES256 needs P-256\.$"),
        (public_pem(ed448.Ed448PrivateKey.generate()), OTHER_KIND),
        (public_pem(x25519.X25519PrivateKey.generate()), OTHER_KIND),
        *[(private_pem(key), PRIVATE) for _, key in PAIRS],
        (private_pem(rsa_key(), form=PrivateFormat.TraditionalOpenSSL), PRIVATE),
        (private_pem(ec_key(), form=PrivateFormat.TraditionalOpenSSL), PRIVATE),
        (private_pem(ed_key(), password=b"guess"), PRIVATE),
        (
            trustme.CA().cert_pem.bytes(),
            CERTIFICATE,
        ),
        (b"", NO_PEM),
        (b"no key at all", NO_PEM),
        (b"\xff\x00", NO_PEM),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", NO_PEM),
        (public_pem(rsa_key())[:80], NO_PEM),
    ],
    # Keys are new each time; tests are to have the same names each time.
    ids=lambda value: "pem" if isinstance(value, bytes) else re.sub(r"\W+", "-", value),
)
def test_keys_that_cannot_be_loaded(pem: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_public_key(pem)
    lines = [line for line in pem.splitlines() if line and not line.startswith(b"-----")]
    assert not any(line.decode("latin-1") in str(caught.value) for line in lines)


def test_an_old_style_rsa_file_is_read() -> None:
    pem = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    key, algorithm = load_public_key(pem)
    assert isinstance(key, rsa.RSAPublicKey)
    assert algorithm == "RS256"


async def test_a_secret_is_counted_in_bytes() -> None:
    short = ("ø" * 16).encode()[:-1]
    said = r"^The secret has 31 bytes and needs at least 32; make one with: openssl rand -hex 32$"
    with pytest.raises(ValueError, match=said):
        verifier(short, "HS256")
    enough = ("ø" * 16).encode()
    assert (await verifier(enough, "HS256").verify(hs256(claims(), secret=enough))).user == "u1"


@pytest.mark.parametrize(
    "secret",
    [
        public_pem(rsa_key()),
        private_pem(ec_key()),
        rsa_key().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        trustme.CA().cert_pem.bytes(),
    ],
)
def test_a_secret_is_not_half_of_a_pair(secret: bytes) -> None:
    with pytest.raises(ValueError, match=r"^The secret is a public key, private key or certificate; "):
        verifier(secret, "HS256")


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS512", "ES384", "hs256", ""])
def test_unknown_algorithms(algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"^The algorithm must be one of HS256, RS256, ES256, EdDSA\.$"):
        verifier(SECRET, algorithm)


def test_key_and_algorithm_go_together() -> None:
    for algorithm, key in PAIRS:
        with pytest.raises(
            ValueError, match=rf"^{algorithm} needs a public key; a secret goes with HS256\.$"
        ):
            verifier(SECRET, algorithm)
        with pytest.raises(ValueError, match=rf"^This public key is for {algorithm}, not for HS256\.$"):
            verifier(key.public_key(), "HS256")
        with pytest.raises(ValueError, match=OTHER_KIND):
            verifier(key, algorithm)


CRIT = "The token's header asks for an extension (crit) that this server lacks."
NOT_A_JWT = "The token is not a JWT."


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["exp"], "exp": 1},
        {"alg": "HS256", "crit": []},
        {"alg": "HS256", "crit": None},
        {"alg": "HS256", "crit": ["b64"], "b64": True},
        {"alg": "HS256", "crit": [["b64"]]},
    ],
)
async def test_extensions_are_refused(header: dict[str, Any]) -> None:
    # PyJWT before 2.12 does not look at them, so they may get past it, or not.
    assert await rejection(secret_verifier(), hs256(claims(), header)) in (CRIT, NOT_A_JWT)


async def test_the_one_extension_that_pyjwt_knows_is_refused_as_well() -> None:
    header = {"alg": "HS256", "crit": ["b64"], "b64": True}
    assert await rejection(secret_verifier(), hs256(claims(), header)) == CRIT


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b'"HS256"',
        b"{",
        b"\xff",
        b"[" * 5000,
        b'{"alg":' * 700,
        b'{"alg":"HS256","x":' + b"9" * 5000 + b"}",
        {"alg": "HS256", "kid": 5},
        {"alg": "HS256", "kid": None},
        {"alg": "HS256", "b64": False},
    ],
)
async def test_headers_that_are_none(header: object) -> None:
    assert await rejection(secret_verifier(), hs256(claims(), header)) == NOT_A_JWT


@pytest.mark.parametrize("algorithm", [..., None, "", "none", "None", "HS384", 5, ["HS256"], {"HS256": 1}])
async def test_odd_algorithms(algorithm: object) -> None:
    header = {} if algorithm is ... else {"alg": algorithm}
    assert await rejection(secret_verifier(), hs256(claims(), header)) == (
        "The token must be signed with HS256."
    )


GOOD = hs256(claims())
HEAD, BODY, SIGNATURE = GOOD.split(".")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "....",
        "x",
        "not a token",
        HEAD,
        f"{HEAD}.{BODY}",
        f"{HEAD}.{BODY}.",
        f"{HEAD}..{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}.{SIGNATURE}",
        f"{HEAD}.{BODY}.{SIGNATURE}A",
        f"{HEAD}.{BODY}.{SIGNATURE[:-2]}",
        f"{HEAD}.{BODY}\ud800.{SIGNATURE}",
        f"\udfff{GOOD}",
        f"{HEAD}.{BODY}é.{SIGNATURE}",
        f"{HEAD}.{base64url(b'{}')}.{SIGNATURE}",
        f"{GOOD}\x00",
        GOOD.upper(),
        f"{BODY}.{HEAD}.{SIGNATURE}",
        hs256(claims(), secret=SECRET + b"!"),
    ],
)
async def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    message = await rejection(secret_verifier(), token)
    assert message in (
        NOT_A_JWT,
        "The token's signature does not match.",
        "The token must be signed with HS256.",
    )
