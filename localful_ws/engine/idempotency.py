"""Which published events were accepted already, by the ids that publishers gave them: the memory engine's.

Pure: no I/O, no clock. Times are seconds on any clock that does not run backwards.
"""

from collections import deque
from hashlib import blake2b

from localful_ws.protocol import Event


class RecentIds:
    """The ids of the last minutes.

    Args:
        seconds: How long one is remembered; 0 remembers none.
        limit: How many are remembered; over it the oldest are forgotten early.

    Attributes:
        forgotten_early: How many were.
    """

    def __init__(self, seconds: float, limit: int) -> None:
        self.forgotten_early = 0
        self._seconds = seconds
        self._limit = limit
        # Digests: ids and users may be long, and these are many.
        self._known: set[bytes] = set()
        self._order: deque[tuple[float, bytes]] = deque()

    def __len__(self) -> int:
        """How many are remembered, some of which may be due to be forgotten."""
        return len(self._known)

    def knows(self, event: Event, now: float) -> bool:
        """Whether this event was accepted before."""
        return event.id is not None and self._is_known(_key_of(event), now)

    def is_new(self, event: Event, now: float) -> bool:
        """Whether this event has not been accepted yet; from now on it has."""
        if event.id is None or not self._seconds:
            return True
        key = _key_of(event)
        if self._is_known(key, now):
            return False
        if len(self._known) >= self._limit:
            self._forget_oldest()
            self.forgotten_early += 1
        self._known.add(key)
        self._order.append((now + self._seconds, key))
        return True

    def _is_known(self, key: bytes, now: float) -> bool:
        while self._order and self._order[0][0] <= now:
            self._forget_oldest()
        return key in self._known

    def _forget_oldest(self) -> None:
        _, key = self._order.popleft()
        self._known.discard(key)


def _key_of(event: Event) -> bytes:
    return blake2b(f"{len(event.user)}:{event.user}{event.id}".encode(), digest_size=16).digest()
