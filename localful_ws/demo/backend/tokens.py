"""Access and refresh tokens: JWTs signed with the secret that the WebSocket server knows as well."""

from typing import Any

import jwt
from attrs import frozen

from localful_ws.demo.backend.errors import unauthorized

ACCESS = "accessToken"
REFRESH = "refreshToken"

_ALGORITHM = "HS256"
# Expiry is checked with our own clock, below.
_OPTIONS: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_sub": False}


@frozen
class Claims:
    """What a verified token says.

    Attributes:
        user: Whose it is (``sub``).
        group: The token group (``gid``): one login on one device.
        token_id: Which refresh token of the login it is (``jti``); empty in an access token.
    """

    user: str
    group: str
    token_id: str = ""


def sign_token(kind: str, claims: Claims, secret: bytes, now: float, seconds: float) -> str:
    """Make a token.

    Args:
        kind: `ACCESS` or `REFRESH`. The WebSocket server refuses refresh tokens by it.
        claims: What it says.
        secret: At least 32 bytes.
        now: The present, in Unix seconds.
        seconds: How long it is good.
    """
    payload = {"sub": claims.user, "gid": claims.group, "type": kind, "iat": now, "exp": now + seconds}
    if claims.token_id:
        payload["jti"] = claims.token_id
    return jwt.encode(payload, secret, _ALGORITHM)


def verify_token(token: str, kind: str, secret: bytes, now: float) -> Claims:
    """Check a token.

    Raises:
        ApiError: 401, if it is none, is not of this kind, or has expired.
    """
    try:
        payload = jwt.decode(token, secret, algorithms=[_ALGORITHM], options=_OPTIONS)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise unauthorized("The token is not valid.") from None
    # Whoever can sign is ourselves: the claims have the types that sign_token gave them.
    if payload.get("type") != kind:
        raise unauthorized(f"This takes a token of the type {kind}.")
    if now >= payload["exp"]:
        raise unauthorized("The token has expired.")
    return Claims(payload["sub"], payload["gid"], payload.get("jti", ""))
