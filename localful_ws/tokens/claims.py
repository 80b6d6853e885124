"""What a token's claims must say (spec/protocol.md, "Access token"; RFC 7519, section 4.1)."""

from typing import Any

from attrs import frozen

from localful_ws.protocol import END_OF_TIME, MAX_ID, Session, decode_json, is_text
from localful_ws.tokens.errors import TokenRejectedError

TOKEN_TYPE = "accessToken"
"""The ``type`` of an access token, where it has one."""

_REFRESH_TOKEN_TYPE = "refreshToken"


@frozen
class TokenRules:
    """What a token must say beside being signed, from the settings.

    ``sub`` and the group claim must be strings of 1 to 128 characters. ``exp`` must be there and lie ahead;
    the session ends exactly then, without leeway. ``nbf`` and ``iat``, where present, must not lie ahead by
    more than ``leeway``. ``type``, where present, must be ``accessToken``.

    Attributes:
        issuer: What ``iss`` must be; None leaves it unchecked.
        audience: What ``aud`` must be, or must list; None leaves it unchecked.
        group_claim: The claim that holds the token group.
        leeway: Seconds the issuer's clock may be ahead of ours.
        max_token_length: The longest token that is looked at, in characters.
    """

    issuer: str | None = None
    audience: str | None = None
    group_claim: str = "gid"
    leeway: float = 10.0
    max_token_length: int = 8192


def check_length(token: str, rules: TokenRules) -> None:
    """Refuse a token that is too long to be looked at.

    Raises:
        TokenRejectedError: If it is.
    """
    if len(token) > rules.max_token_length:
        raise TokenRejectedError(f"The token is longer than {rules.max_token_length} characters.")


def session_from_claims(payload: bytes, rules: TokenRules, now: float) -> Session:
    """Check the claims of a token whose signature holds.

    Args:
        payload: The token's payload, decoded from base64.
        rules: What the claims must say.
        now: The moment, in Unix seconds.

    Returns:
        The session the token stands for.

    Raises:
        TokenRejectedError: If a claim is missing, of a wrong type, or not what it must be.
    """
    claims = _decode(payload)
    _check_type(claims)
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise TokenRejectedError("The token has no exp claim; it must expire.")
    if now >= expires_at:
        raise TokenRejectedError("The token has expired.")
    not_before = _time(claims, "nbf")
    if not_before is not None and not_before > now + rules.leeway:
        raise TokenRejectedError("The token is not valid yet: its nbf claim lies ahead.")
    issued_at = _time(claims, "iat")
    if issued_at is not None and issued_at > now + rules.leeway:
        raise TokenRejectedError("The token was issued in the future: its iat claim lies ahead.")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise TokenRejectedError("The token's iss claim is not the issuer this server trusts.")
    if rules.audience is not None and not _names_audience(claims.get("aud"), rules.audience):
        raise TokenRejectedError("The token's aud claim does not name this server.")
    return Session(
        user=_id(claims, "sub"),
        group=_id(claims, rules.group_claim),
        expires_at=expires_at,
        issued_at=issued_at,
    )


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        claims = decode_json(payload.decode())
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise TokenRejectedError("The token's payload is not a JSON object.")
    return claims


def _check_type(claims: dict[str, Any]) -> None:
    token_type = claims.get("type", TOKEN_TYPE)
    if token_type == TOKEN_TYPE:
        return
    if token_type == _REFRESH_TOKEN_TYPE:
        raise TokenRejectedError("This is a refresh token; send the access token.")
    raise TokenRejectedError(f"The token is not an access token: its type claim must be {TOKEN_TYPE}.")


def _time(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value: object = claims[name]
    # To isinstance a bool is an int. Neither NaN nor infinity is within the bounds, and an int that no float
    # could hold is not either.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < END_OF_TIME:
        raise TokenRejectedError(
            f"The token's {name} claim must be a number of Unix seconds, not of milliseconds."
        )
    return value


def _names_audience(claim: object, audience: str) -> bool:
    return claim == audience or (isinstance(claim, list) and audience in claim)


def _id(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not is_text(value):
        raise TokenRejectedError(f"The token's {name} claim must be a string of 1 to {MAX_ID} characters.")
    return str(value)
