"""Access tokens of our own making, for development and tests."""

import json

from localful_ws.protocol import MAX_ID, is_text
from localful_ws.tokens.claims import TOKEN_TYPE
from localful_ws.tokens.keys import check_secret
from localful_ws.tokens.signatures import sign


def mint_token(
    secret: bytes,
    user: str,
    group: str,
    ttl: float,
    now: float,
    *,
    issuer: str | None = None,
    audience: str | None = None,
    group_claim: str = "gid",
) -> str:
    """Make an access token, signed with HS256.

    Args:
        secret: At least 32 bytes.
        user: The ``sub`` claim.
        group: The token group.
        ttl: Seconds until it expires.
        now: The moment of issue, in Unix seconds; whole seconds give whole ones in ``iat`` and ``exp``.
        issuer: The ``iss`` claim, if any.
        audience: The ``aud`` claim, if any.
        group_claim: The claim that holds the token group.

    Returns:
        A JWT with ``type``, ``iat`` and ``exp``.

    Raises:
        ValueError: If the secret is too short, or user or group is not a string of 1 to 128 characters. The
            message is a sentence.
    """
    check_secret(secret)
    for name, value in (("user", user), ("group", group)):
        if not is_text(value):
            raise ValueError(f"The {name} must be a string of 1 to {MAX_ID} characters.")
    claims: dict[str, object] = {
        "sub": user,
        group_claim: group,
        "type": TOKEN_TYPE,
        "iat": _number(now),
        "exp": _number(now + ttl),
    }
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    return sign(json.dumps(claims, separators=(",", ":")).encode(), secret)


def _number(seconds: float) -> float:
    return int(seconds) if seconds == int(seconds) else seconds
