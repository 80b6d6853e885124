"""Access tokens, as the HTTP API of the simulation issues them."""

from random import Random

from attrs import frozen

from localful_ws.tokens import mint_token

SECRET = b"a secret of at least thirty-two bytes"
_OTHER_SECRET = b"another secret of thirty-two bytes!!"


@frozen
class Token:
    """A token, and what is true of it.

    Attributes:
        text: The token.
        user: Its user.
        group: Its token group.
        issued_at: When it was issued, by the API's clock.
        expires_at: When it expires.
        good: Whether it is signed as it should be, and is an access token.
    """

    text: str
    user: str
    group: str
    issued_at: float
    expires_at: float
    good: bool = True

    def __str__(self) -> str:
        return f"{self.user}/{self.group} of {self.issued_at} until {self.expires_at}"


def issue(user: str, group: str, ttl: float, now: float) -> Token:
    """Issue a token."""
    issued_at = float(round(now, 3))
    ttl = round(ttl, 3)
    return Token(mint_token(SECRET, user, group, ttl, issued_at), user, group, issued_at, issued_at + ttl)


def bad_token(random: Random, user: str, group: str, now: float) -> Token:
    """A token that does not hold: of another secret, expired, or none at all."""
    kind = random.choice(("forged", "expired", "none"))
    if kind == "forged":
        text = mint_token(_OTHER_SECRET, user, group, 3600.0, now)
    elif kind == "expired":
        text = mint_token(SECRET, user, group, 10.0, now - 1000.0)
    else:
        text = "not.a.token"
    return Token(text, user, group, now, now + 3600.0, good=False)
