"""From the settings to whatever checks access tokens."""

from collections.abc import Callable

from localful_ws.settings import Settings, SettingsError
from localful_ws.tokens import JwksVerifier, StaticKeyVerifier, TokenRules, TokenVerifier, load_public_key


def build_verifier(settings: Settings, now: Callable[[], float]) -> TokenVerifier:
    """Make the verifier that the settings describe.

    Args:
        settings: The daemon's settings.
        now: Tells the moment in Unix seconds, on a clock that runs as Trio's does.

    Raises:
        SettingsError: If the key can't be used, or does not go with the algorithm.
    """
    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        group_claim=settings.group_claim,
        leeway=settings.jwt_leeway,
        max_token_length=settings.max_token_length,
    )
    if settings.jwks_url is not None:
        try:
            return JwksVerifier(settings.jwks_url, settings.jwt_algorithm, rules, now)
        except ValueError as error:
            raise SettingsError(f"jwks-url: {error}") from None
    if settings.jwt_public_key is not None:
        try:
            key, algorithm = load_public_key(settings.jwt_public_key, settings.jwt_algorithm)
        except ValueError as error:
            raise SettingsError(f"jwt-public-key-file: {error}") from None
        return StaticKeyVerifier(key, algorithm, rules, now)
    try:
        return StaticKeyVerifier(settings.jwt_secret or b"", "HS256", rules, now)
    except ValueError as error:
        raise SettingsError(f"jwt-secret: {error}") from None
