"""Keys, and tokens made by hand, so that what PyJWT would not write can be tested as well."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

SECRET = b"a secret of no less than 32 bytes"
NOW = 1_700_000_000.0

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


# Keys by name, each made when it is first asked for.
_rsa_keys = cache(lambda name, bits: rsa.generate_private_key(65537, bits))
_ec_keys = cache(lambda name: ec.generate_private_key(ec.SECP256R1()))
_ed_keys = cache(lambda name: ed25519.Ed25519PrivateKey.generate())


def rsa_key(name: str = "a", bits: int = 2048) -> rsa.RSAPrivateKey:
    return _rsa_keys(name, bits)


def ec_key(name: str = "a") -> ec.EllipticCurvePrivateKey:
    return _ec_keys(name)


def ed_key(name: str = "a") -> ed25519.Ed25519PrivateKey:
    return _ed_keys(name)


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def private_pem(
    key: PrivateKeyTypes, password: bytes | None = None, form: PrivateFormat = PrivateFormat.PKCS8
) -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, form, encryption)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token; a change to ``...`` leaves one out."""
    all_claims = {"sub": "u1", "gid": "g1", "exp": NOW + 600, **changes}
    return {name: value for name, value in all_claims.items() if value is not ...}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(payload: bytes | Mapping[str, Any], header: bytes | Any = None, secret: bytes = SECRET) -> str:
    """A token with a good signature, whatever its two halves are."""
    head = {"alg": "HS256", "typ": "JWT"} if header is None else header
    halves = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (head, payload)]
    text = ".".join(map(base64url, halves))
    return f"{text}.{base64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def signed(key: PrivateKey, algorithm: str, key_id: str | None = None, **changes: Any) -> str:
    headers = None if key_id is None else {"kid": key_id}
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)
