"""What a verified access token says."""

from attrs import frozen


@frozen
class Session:
    """A verified access token, seen from the protocol.

    Attributes:
        user: The ``sub`` claim.
        group: The token group (``gid`` claim): one login on one device; a refreshed token keeps it.
        expires_at: The ``exp`` claim, Unix seconds.
        issued_at: The ``iat`` claim, Unix seconds, where the token has one.
    """

    user: str
    group: str
    expires_at: float
    issued_at: float | None = None
