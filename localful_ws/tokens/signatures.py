"""Signatures of JWTs (RFC 7515), through one PyJWT object that is set up once."""

from functools import lru_cache
from typing import Any

import jwt
from attrs import field, frozen
from jwt.algorithms import HMACAlgorithm
from jwt.utils import base64url_decode

from localful_ws.protocol import MESSAGE_DEPTH, is_too_deep
from localful_ws.tokens.errors import TokenRejectedError
from localful_ws.tokens.keys import ALGORITHMS, SECRET_ALGORITHM, PublicKey

_NO_JWT = "The token is not a JWT."


@frozen
class VerificationKey:
    """A key and the only algorithm it may be used with."""

    key: PublicKey | bytes = field(repr=False)
    algorithm: str


@frozen
class TokenHeader:
    """What a token's header says, before anything is known to be true."""

    algorithm: object
    key_id: str | None


def verified_payload(token: str, key: VerificationKey) -> bytes:
    """Check a token's signature and return its payload.

    Raises:
        TokenRejectedError: If it is no JWT, is signed with another algorithm or another key, or asks for an
            extension of the format (``crit``); this server knows none.
    """
    try:
        _check_depth(token.partition(".")[0])
        decoded = _jws.decode_complete(token, key.key, [key.algorithm])
    except jwt.InvalidAlgorithmError:
        raise TokenRejectedError(f"The token must be signed with {key.algorithm}.") from None
    except jwt.InvalidSignatureError:
        raise TokenRejectedError("The token's signature does not match.") from None
    except _FAILURES:
        raise TokenRejectedError(_NO_JWT) from None
    if "crit" in decoded["header"]:
        raise TokenRejectedError("The token's header asks for an extension (crit) that this server lacks.")
    payload: bytes = decoded["payload"]
    return payload


def unverified_header(token: str) -> TokenHeader:
    """Read a token's header, to find the key it names.

    Raises:
        TokenRejectedError: If it is no JWT.
    """
    try:
        _check_depth(token.partition(".")[0])
        header = _jws.get_unverified_header(token)
    except _FAILURES:
        raise TokenRejectedError(_NO_JWT) from None
    return TokenHeader(algorithm=header.get("alg"), key_id=header.get("kid"))


# One issuer's tokens have the same header. What raises is not remembered.
@lru_cache(maxsize=16)
def _check_depth(header: str) -> None:
    # PyJWT parses the header, before it looks at the signature, as deep as the interpreter goes.
    if is_too_deep(base64url_decode(header), MESSAGE_DEPTH):
        raise jwt.DecodeError


def sign(payload: bytes, secret: bytes) -> str:
    """Make a JWT of a payload with a secret that `check_secret` has passed."""
    return _jws.encode(payload, secret, SECRET_ALGORITHM)


class _CheckedHmac(HMACAlgorithm):
    """HS256 for secrets checked at the start.

    PyJWT parses the secret with each token, as PEM, DER, SSH key and JWK, to see that it is no public key: as
    much work as all the rest.
    """

    def prepare_key(self, key: Any) -> bytes:
        checked: bytes = key
        return checked


def _make_jws() -> jwt.PyJWS:
    jws = jwt.PyJWS(algorithms=[name for name in ALGORITHMS if name != SECRET_ALGORITHM])
    jws.register_algorithm(SECRET_ALGORITHM, _CheckedHmac(HMACAlgorithm.SHA256))
    return jws


# What PyJWT, json and base64 raise over text that is no token: lone surrogates are a UnicodeEncodeError and
# numbers of thousands of digits a ValueError.
_FAILURES = (jwt.PyJWTError, ValueError)
_jws = _make_jws()
