"""Which sessions were ended from outside and may not come back (spec/protocol.md, "Disconnect").

Pure: no I/O, no clock. Times are Unix seconds.
"""

import heapq
from collections.abc import Sequence

from attrs import frozen

from localful_ws.protocol import Session
from localful_ws.publishing import Disconnect

_Whom = tuple[str, str]
"""User and group; of anybody, or of any group, is ``""``, which is nobody's id."""

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
    """Whose tokens are refused, each until a moment of its own.

    A revocation is in force while ``now < until``, and is about tokens that were issued before it was asked
    for. Revoking again what is revoked extends it and never takes anything back.

    Args:
        limit: How many revocations may be remembered by `revoke`.
    """

    __slots__ = ("_lapses", "_limit", "_revoked")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._revoked: dict[_Whom, _Revocation] = {}
        # One entry for each key of `_revoked`, at a moment not later than it lapses: an extension leaves the
        # entry where it is, and it is put back when its moment comes.
        self._lapses: list[tuple[float, _Whom]] = []

    def __len__(self) -> int:
        """How many are remembered, some of which may have lapsed."""
        return len(self._revoked)

    def revoke(self, disconnects: Sequence[Disconnect], now: float) -> None:
        """Refuse the tokens that disconnects are about, all of these or none.

        Args:
            disconnects: Whom, and which tokens of theirs until when.
            now: The moment of the call.

        Raises:
            TooManyRevocationsError: If there is no room for all; then nothing has changed.
        """
        self._make_room({_whom(each) for each in disconnects if each.until > now}, now)
        self.remember(disconnects, now)

    def remember(self, disconnects: Sequence[Disconnect], now: float) -> None:
        """Refuse the tokens that disconnects are about, over the limit too: others have seen to one.

        Args:
            disconnects: Whom, and which tokens of theirs until when.
            now: The moment of the call.
        """
        self._forget_lapsed(now)
        for each in disconnects:
            if each.until > now:
                self._revoke(_whom(each), _Revocation(each.at, each.until), now)

    def is_revoked(self, session: Session, now: float) -> bool:
        """Whether a session's token is refused at ``now``."""
        self._forget_lapsed(now)
        user, group = session.user, session.group
        for whom in ((user, group), (user, ""), ("", group)):
            revocation = self._revoked.get(whom)
            if (
                revocation is not None
                and now < revocation.until
                and session.is_issued_before(revocation.issued_before)
            ):
                return True
        return False

    def _revoke(self, whom: _Whom, revocation: _Revocation, now: float) -> None:
        earlier = self._revoked.get(whom)
        if earlier is None:
            heapq.heappush(self._lapses, (revocation.until, whom))
        elif now < earlier.until:
            revocation = _Revocation(
                issued_before=max(earlier.issued_before, revocation.issued_before),
                until=max(earlier.until, revocation.until),
            )
        self._revoked[whom] = revocation

    def _make_room(self, whoms: set[_Whom], now: float) -> None:
        # What has lapsed counts as new: it may be forgotten on the way.
        known = map(self._revoked.get, whoms)
        new = sum(revocation is None or revocation.until <= now for revocation in known)
        while new and len(self._revoked) + new > self._limit:
            if not self._due(now):
                raise TooManyRevocationsError
            self._forget_lapsed(now)

    def _forget_lapsed(self, now: float) -> None:
        for _ in range(_FORGET_AT_ONCE):
            if not self._due(now):
                return
            _, whom = heapq.heappop(self._lapses)
            until = self._revoked[whom].until
            if until <= now:
                del self._revoked[whom]
            else:
                heapq.heappush(self._lapses, (until, whom))

    def _due(self, now: float) -> bool:
        return bool(self._lapses) and self._lapses[0][0] <= now


def _whom(disconnect: Disconnect) -> _Whom:
    return disconnect.user or "", disconnect.group or ""
