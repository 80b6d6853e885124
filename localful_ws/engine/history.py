"""The events of the last minutes, for devices that were away: the memory engine's.

Pure: no I/O, no clock. Times are seconds on any clock that does not run backwards.
"""

import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict, deque
from collections.abc import Sequence
from hashlib import blake2b

from attrs import define, frozen

from localful_ws.engine import Entry, ReplayLimits
from localful_ws.protocol import Event

# What Python takes to keep an event, without its data, and to remember a user whose events are all forgotten.
_EVENT_BYTES = 1024
_USER_BYTES = 1024
# Users may take so much of the memory. Beyond it one is forgotten rather than an event.
_USERS_SHARE = 0.25


@frozen
class HistoryLimits:
    """How much is kept; 0 in one of them keeps none.

    Attributes:
        events: Events of one user.
        seconds: How long an event is kept.
        bytes: All events of all users.
    """

    events: int = 1000
    seconds: float = 300.0
    bytes: int = 64 * 1024 * 1024


@frozen
class _Kept:
    entry: Entry
    at: float
    size: int


@define
class _Stream:
    """What is known of one user's stream.

    Attributes:
        tag: Stands for the user in cursors.
        numbers: Of the events that are kept, in order.
        forgotten: The number of the last event that is kept no more; 0 if there is none.
    """

    tag: str
    numbers: deque[int] | None = None
    forgotten: int = 0


class History:
    """Numbers all events of this process, and keeps the newest of each user.

    A cursor is the user's tag and a number. The tags are made with a key of this process, so a cursor of
    another user or of an earlier process is known for what it is.

    Users are remembered when none of their events is kept any more, so that a quiet user's old cursor is
    still good. They take up to a quarter of ``HistoryLimits.bytes``; those quiet for longest are forgotten
    first.
    """

    def __init__(self, limits: HistoryLimits) -> None:
        self._limits = limits
        self._key = secrets.token_bytes(16)
        self._number = 0
        # By number, and so the oldest first.
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        # By the time of the last event, the longest quiet first.
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._bytes = 0
        # The highest number of an event of a user who is not remembered.
        self._forgotten = 0

    def __len__(self) -> int:
        """How many events are kept."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """About how much memory is in use."""
        return self._bytes

    def append(self, event: Event, now: float) -> Entry:
        """Give an event its place behind all others."""
        stream = self._streams.get(event.user)
        if stream is None:
            stream = self._streams[event.user] = _Stream(self._tag(event.user), forgotten=self._forgotten)
            self._bytes += _USER_BYTES
        else:
            self._streams.move_to_end(event.user)
        self._number += 1
        entry = Entry(event, f"{stream.tag}.{self._number}")
        kept = _Kept(entry, now, len(event.data) + _EVENT_BYTES)
        self._kept[self._number] = kept
        self._bytes += kept.size
        if stream.numbers is None:
            stream.numbers = deque()
        stream.numbers.append(self._number)
        if len(stream.numbers) > self._limits.events:
            self._forget(stream.numbers[0])
        self._forget_old(now)
        while self._bytes > self._limits.bytes:
            if self._kept and len(self._streams) * _USER_BYTES <= self._limits.bytes * _USERS_SHARE:
                self._forget(next(iter(self._kept)))
            else:
                self._forget_user()
        return entry

    def cursor(self, user: str) -> str:
        """The present end of a user's stream."""
        stream = self._streams.get(user)
        return f"{self._tag(user) if stream is None else stream.tag}.{self._number}"

    def since(self, user: str, cursor: str, limits: ReplayLimits, now: float) -> Sequence[Entry] | None:
        """What came after a cursor.

        Returns:
            The events in order; None if the cursor is not one of this user and process, if it is older than
            what is kept, or if more came than ``limits`` allow.
        """
        self._forget_old(now)
        tag, _, digits = cursor.partition(".")
        stream = self._streams.get(user)
        if tag != (self._tag(user) if stream is None else stream.tag) or not _is_number(digits):
            return None
        number = int(digits)
        if number > self._number or number < (self._forgotten if stream is None else stream.forgotten):
            return None
        missed: list[Entry] = []
        size = 0
        for later in reversed((stream and stream.numbers) or ()):
            if later <= number:
                break
            kept = self._kept[later]
            missed.append(kept.entry)
            size += kept.size
            if len(missed) > limits.max_events or size > limits.max_bytes:
                return None
        missed.reverse()
        return missed

    def _tag(self, user: str) -> str:
        digest = blake2b(user.encode(errors="surrogatepass"), key=self._key, digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    def _forget_old(self, now: float) -> None:
        while self._kept:
            number, kept = next(iter(self._kept.items()))
            if now - kept.at < self._limits.seconds:
                return
            self._forget(number)

    def _forget(self, number: int) -> None:
        """Forget an event, the oldest one of its user."""
        kept = self._kept.pop(number)
        self._bytes -= kept.size
        stream = self._streams[kept.entry.event.user]
        stream.forgotten = number
        if stream.numbers is not None:
            stream.numbers.popleft()
            if not stream.numbers:
                stream.numbers = None

    def _forget_user(self) -> None:
        """Forget the user that has been quiet for longest."""
        user, stream = next(iter(self._streams.items()))
        while stream.numbers:
            self._forget(stream.numbers[0])
        del self._streams[user]
        self._bytes -= _USER_BYTES
        self._forgotten = max(self._forgotten, stream.forgotten)


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 20
