"""Which sessions were ended from outside and may not come back (spec/protocol.md, "Disconnect").

Pure: no I/O, no clock. Times are Unix seconds.
"""

import heapq
import math
from typing import Literal

from attrs import frozen

from localful_ws.protocol import Session

_Key = tuple[Literal["group", "user"], str]
# Forgotten at most in one call, so that none has to clear away a hundred thousand at once; more than one, so
# that they go faster than they can come in.
_FORGET_AT_ONCE = 16


class TooManyRevocationsError(Exception):
    """As many revocations as may be remembered are in force; this one was not taken."""


@frozen
class _Revocation:
    issued_before: float
    until: float


class Revocations:
    """The token groups and users whose tokens are refused, each until a moment of its own.

    A revocation is in force while ``now < until``. Revoking again what is revoked extends it and never takes
    anything back.

    Args:
        limit: How many revocations, of groups and users together, may be remembered.
    """

    __slots__ = ("_lapses", "_limit", "_revoked")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._revoked: dict[_Key, _Revocation] = {}
        # One entry for each key of `_revoked`, at a moment not later than it lapses: an extension leaves the
        # entry where it is, and it is put back when its moment comes.
        self._lapses: list[tuple[float, _Key]] = []

    def __len__(self) -> int:
        """How many are remembered, some of which may have lapsed."""
        return len(self._revoked)

    def revoke_group(self, group: str, until: float, now: float) -> None:
        """Refuse every token of a token group.

        Raises:
            TooManyRevocationsError: If there is no room.
        """
        self._revoke(("group", group), _Revocation(math.inf, until), now)

    def revoke_user(self, user: str, issued_before: float, until: float, now: float) -> None:
        """Refuse a user's tokens that were issued before a moment, or that do not say when.

        Args:
            user: Whose tokens.
            issued_before: Tokens with an earlier ``iat``, or none, are refused.
            until: When the revocation lapses.
            now: The moment of the call.

        Raises:
            TooManyRevocationsError: If there is no room.
        """
        self._revoke(("user", user), _Revocation(issued_before, until), now)

    def is_revoked(self, session: Session, now: float) -> bool:
        """Whether a session's token is refused at ``now``."""
        self._forget_lapsed(now)
        return self._refuses(("group", session.group), session, now) or self._refuses(
            ("user", session.user), session, now
        )

    def _refuses(self, key: _Key, session: Session, now: float) -> bool:
        revocation = self._revoked.get(key)
        if revocation is None or now >= revocation.until:
            return False
        return session.issued_at is None or session.issued_at < revocation.issued_before

    def _revoke(self, key: _Key, revocation: _Revocation, now: float) -> None:
        if revocation.until <= now:
            return
        self._forget_lapsed(now)
        earlier = self._revoked.get(key)
        if earlier is None:
            self._make_room(now)
            heapq.heappush(self._lapses, (revocation.until, key))
        elif now < earlier.until:
            revocation = _Revocation(
                issued_before=max(earlier.issued_before, revocation.issued_before),
                until=max(earlier.until, revocation.until),
            )
        self._revoked[key] = revocation

    def _make_room(self, now: float) -> None:
        while len(self._revoked) >= self._limit:
            if not self._due(now):
                raise TooManyRevocationsError
            self._forget_lapsed(now)

    def _forget_lapsed(self, now: float) -> None:
        for _ in range(_FORGET_AT_ONCE):
            if not self._due(now):
                return
            _, key = heapq.heappop(self._lapses)
            until = self._revoked[key].until
            if until <= now:
                del self._revoked[key]
            else:
                heapq.heappush(self._lapses, (until, key))

    def _due(self, now: float) -> bool:
        return bool(self._lapses) and self._lapses[0][0] <= now
