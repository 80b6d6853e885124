"""What a verified access token says."""

from typing import Final

from attrs import frozen

END_OF_TIME: Final = 253_402_300_800
"""The year 10,000, Unix seconds. Calendars end there, and milliseconds taken for seconds land there."""


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

    def is_issued_before(self, moment: float) -> bool:
        """Whether its token was issued before a moment; one that does not say when counts as if it was."""
        return self.issued_at is None or self.issued_at < moment
