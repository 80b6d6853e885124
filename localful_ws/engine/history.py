"""The events of the last minutes, for devices that were away: the memory engine's.

What is kept are frames, one behind the other in segments of memory that are given back to the system whole.
Objects of all sizes that come and go would leave the heap in pieces, which is more than they take themselves.

Pure: no I/O, no clock. Times are seconds on any clock that does not run backwards.
"""

import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict, deque
from collections.abc import Sequence
from hashlib import blake2b
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
from struct import Struct
from sys import getsizeof
from typing import Final

from attrs import define, frozen

from localful_ws.engine import Entry, ReplayLimits, entry_of
from localful_ws.protocol import Event, EventKind, EventName

# A history is divided into so many segments, as far as they get neither too small nor too large.
_SEGMENTS: Final = 64
_SMALLEST_SEGMENT: Final = 64 * 1024
_LARGEST_SEGMENT: Final = 1024 * 1024
# A small history has smaller ones, down to a page each: so many at least.
_FEWEST_SEGMENTS: Final = 4
# What Python takes for a segment, and to remember a user besides the name: measured, and rounded up.
_SEGMENT_BYTES: Final = 512
_USER_BYTES: Final = 384
# Users may take so much of the memory. Beyond it one is forgotten rather than an event.
_USERS_SHARE: Final = 0.25

# Before each frame: the number and the place of the user's event before it, when it was appended, the size of
# the frame, and the size of what comes first. That is the event's name, whether it has a group, the size of
# its vault's id, that id, and the group.
_HEAD: Final = Struct("<QQdIH")
_ABOUT: Final = Struct("<BBH")
_NAMES: Final = tuple(EventName)
_INDEX: Final = {name: index for index, name in enumerate(_NAMES)}
# A place is a segment's serial number and an offset in the segment. There is no segment 0.
_OFFSET_BITS: Final = 32
_OFFSET: Final = (1 << _OFFSET_BITS) - 1
_NOWHERE: Final = 0


@frozen
class HistoryLimits:
    """How much is kept; 0 in one of them keeps none.

    Attributes:
        events: Events of one user.
        seconds: How long an event is kept.
        bytes: All events of all users, and what is known of the users.
    """

    events: int = 1000
    seconds: float = 300.0
    bytes: int = 64 * 1024 * 1024


class _Segment:
    """Memory that is filled from front to back, and freed whole.

    Args:
        size: Of the memory, in bytes: whole pages.

    Attributes:
        size: As above.
        serial: Its place in the row of all segments.
        memory: The memory.
        used: How much of it is filled.
        events: How many events are in it.
        at: When the last of them was appended.
    """

    __slots__ = ("at", "events", "memory", "serial", "size", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        self.begin(0)

    def begin(self, serial: int) -> None:
        """Begin at the front."""
        self.serial = serial
        self.used = 0
        self.events = 0
        self.at = 0.0

    def is_held(self) -> bool:
        """Whether somebody holds a slice of it."""
        try:
            # This changes nothing, and is refused as long as there are slices.
            self.memory.resize(self.size)
        except BufferError:
            return True
        return False


@define(eq=False)
class _Stream:
    """What is known of one user's stream.

    Attributes:
        tag: Stands for the user in cursors.
        number: Of the last event.
        place: Where it is kept, if it is; those before it are found from there.
    """

    tag: str
    number: int
    place: int = _NOWHERE


class History:
    """Numbers all events of this process, and keeps the newest of each user.

    A cursor is the user's tag and a number. The tags are made with a key of this process, so a cursor of
    another user or of an earlier process is known for what it is.

    Each event is kept behind the one before it, whoever's they are, and says where its user's last one is.
    When memory is full the oldest segment goes, with all users' events in it. An event of more than three
    quarters of ``HistoryLimits.bytes`` is not kept.

    Users are remembered when none of their events is kept any more, so that a quiet user's old cursor is
    still good. They take up to a quarter of ``HistoryLimits.bytes``; those quiet for longest are forgotten
    first.

    A replay is slices of the segments. One that goes while a slice of it is held is freed later, when that is
    noticed. Until then it counts, and replays are copies: so all that is held was once within the limit.
    """

    def __init__(self, limits: HistoryLimits) -> None:
        self._limits = limits
        self._keeps = limits.events > 0 and limits.seconds > 0
        self._segment_size = min(
            max(limits.bytes // _SEGMENTS, _SMALLEST_SEGMENT),
            _LARGEST_SEGMENT,
            limits.bytes // _FEWEST_SEGMENTS,
        )
        self._key = secrets.token_bytes(16)
        self._number = 0
        # The oldest first; their serial numbers have no gap.
        self._segments: deque[_Segment] = deque()
        self._serial = 0
        # Forgotten, but not free yet.
        self._held: list[_Segment] = []
        # By the time of the last event, the longest quiet first.
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._segments_bytes = 0
        self._users_bytes = 0
        # The highest number of an event of a user who is not remembered.
        self._forgotten = 0

    def __len__(self) -> int:
        """How many events are in memory; some may be too many or too old to be told."""
        return sum(segment.events for segment in self._segments)

    @property
    def bytes(self) -> int:
        """How much memory is in use: all segments, however full, and about what the users take.

        It is never more than `HistoryLimits.bytes`.
        """
        return self._segments_bytes + self._users_bytes

    def append(self, event: Event, now: float) -> Entry:
        """Give an event its place behind all others.

        If this raises, which it does not for what publishers can send, the event counts as lost: no cursor of
        this user from before is good any more.
        """
        self._number += 1
        number = self._number
        stream = self._streams.get(event.user)
        if stream is None:
            before, place = self._forgotten, _NOWHERE
            stream = self._remember(event.user, number)
        else:
            self._streams.move_to_end(event.user)
            before, place = stream.number, stream.place
            stream.number, stream.place = number, _NOWHERE
        entry = entry_of(event, f"{stream.tag}.{number}")
        if self._keeps:
            stream.place = self._keep(entry, before, place, now)
        return entry

    def cursor(self, user: str) -> str:
        """The present end of a user's stream."""
        stream = self._streams.get(user)
        return f"{self._tag(user) if stream is None else stream.tag}.{self._number}"

    def since(self, user: str, cursor: str, limits: ReplayLimits, now: float) -> Sequence[Entry] | None:
        """What came after a cursor.

        Returns:
            The events in order, without their data, which is in the frames; None if the cursor is not one of
            this user and process, if it is older than what is kept, or if more came than ``limits`` allow.
        """
        self._forget_old(now)
        tag, _, digits = cursor.partition(".")
        stream = self._streams.get(user)
        if tag != (self._tag(user) if stream is None else stream.tag) or not _is_number(digits):
            return None
        number = int(digits)
        if number > self._number or (stream is None and number < self._forgotten):
            return None
        return [] if stream is None else self._after(number, user, stream, limits, now)

    def _after(
        self, number: int, user: str, stream: _Stream, limits: ReplayLimits, now: float
    ) -> Sequence[Entry] | None:
        """What came after an event of this user, found from the last one backwards."""
        most = min(limits.max_events, self._limits.events)
        found: list[tuple[int, _Segment, int, int, int]] = []
        size = 0
        later, place = stream.number, stream.place
        while later > number:
            segment = self._segment_of(place)
            if segment is None or len(found) >= most:
                return None
            offset = place & _OFFSET
            this = later
            later, place, at, frame_size, about_size = _HEAD.unpack_from(segment.memory, offset)
            size += frame_size
            if size > limits.max_bytes or now - at >= self._limits.seconds:
                return None
            about = offset + _HEAD.size
            frame = about + about_size
            found.append((this, segment, about, frame, frame + frame_size))
        self._free_held()
        entries = []
        # Many of them differ in their data only, and share what else there is.
        events: dict[bytes, Event] = {}
        views: dict[_Segment, memoryview] = {}
        for this, segment, about, frame, end in reversed(found):
            key = segment.memory[about:frame]
            event = events.get(key)
            if event is None:
                event = events[key] = _decode_about(user, key)
            view = views.get(segment)
            if view is None:
                view = views[segment] = memoryview(segment.memory).toreadonly()
            kept = view[frame:end]
            entries.append(Entry(event, f"{stream.tag}.{this}", bytes(kept) if self._held else kept))
        return entries

    # --- segments ---

    def _keep(self, entry: Entry, before: int, before_place: int, now: float) -> int:
        """Put an entry into a segment; returns the place, `_NOWHERE` if there is no room."""
        about, frame = _encode_about(entry.event), entry.frame
        head = _HEAD.pack(before, before_place, now, len(frame), len(about)) + about
        size = len(head) + len(frame)
        segments = self._segments
        if segments and now - segments[0].at >= self._limits.seconds:
            self._forget_old(now)
        segment = segments[-1] if segments else None
        if segment is None or segment.used + size > segment.size:
            segment = self._begin_segment(size)
            if segment is None:
                return _NOWHERE
        begin = segment.used
        middle = begin + len(head)
        segment.used = end = begin + size
        segment.memory[begin:middle] = head
        segment.memory[middle:end] = frame
        segment.events += 1
        segment.at = now
        return segment.serial << _OFFSET_BITS | begin

    def _begin_segment(self, size: int) -> _Segment | None:
        """Begin a segment for an event of this size at least; None if there is no room for it."""
        size = -(-max(size, self._segment_size) // PAGESIZE) * PAGESIZE
        segment = self._reuse_segment(size)
        if segment is None:
            if not self._make_room(size + _SEGMENT_BYTES):
                return None
            segment = _Segment(size)
            self._segments_bytes += size + _SEGMENT_BYTES
        self._serial += 1
        segment.begin(self._serial)
        self._segments.append(segment)
        return segment

    def _reuse_segment(self, size: int) -> _Segment | None:
        """Take the oldest segment if it must go for one of this size: new memory costs much more."""
        if (
            self.bytes + size + _SEGMENT_BYTES <= self._limits.bytes
            or self._users_bytes > self._limits.bytes * _USERS_SHARE
            or not self._segments
            or self._segments[0].size != size
            or self._segments[0].is_held()
        ):
            return None
        return self._segments.popleft()

    def _segment_of(self, place: int) -> _Segment | None:
        """The segment of a place, unless it was forgotten."""
        if not self._segments:
            return None
        index = (place >> _OFFSET_BITS) - self._segments[0].serial
        return self._segments[index] if index >= 0 else None

    def _make_room(self, size: int) -> bool:
        """Forget what must be forgotten to have so much room; says whether there is."""
        limit = self._limits.bytes
        if size > limit * (1 - _USERS_SHARE):
            return False
        self._free_held()
        while self.bytes + size > limit:
            only_held = not self._segments and self.bytes > limit
            if only_held or self._users_bytes > limit * _USERS_SHARE:
                self._forget_user()
            elif self._segments:
                self._forget_segment()
            else:
                return False
        return True

    def _forget_old(self, now: float) -> None:
        while self._segments and now - self._segments[0].at >= self._limits.seconds:
            self._forget_segment()

    def _forget_segment(self) -> None:
        """Forget the oldest segment, and what is in it."""
        self._held.append(self._segments.popleft())
        self._free_held()

    def _free_held(self) -> None:
        """Give back the memory of what was forgotten and is not held any more."""
        for segment in self._held[:]:
            if not segment.is_held():
                self._held.remove(segment)
                self._segments_bytes -= segment.size + _SEGMENT_BYTES
                segment.memory.close()

    # --- users ---

    def _tag(self, user: str) -> str:
        digest = blake2b(user.encode(errors="surrogatepass"), key=self._key, digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    def _remember(self, user: str, number: int) -> _Stream:
        """Remember a user, whose event of this number is being appended."""
        stream = self._streams[user] = _Stream(self._tag(user), number)
        self._users_bytes += _USER_BYTES + getsizeof(user)
        self._make_room(0)
        return stream

    def _forget_user(self) -> None:
        """Forget the user that has been quiet for longest."""
        user, stream = self._streams.popitem(last=False)
        self._users_bytes -= _USER_BYTES + getsizeof(user)
        self._forgotten = stream.number


def _encode_about(event: Event) -> bytes:
    """What is to be known of an event besides its user and its frame."""
    vault = b"" if event.vault is None else event.vault.encode()
    if event.group is None:
        return _ABOUT.pack(_INDEX[event.name], 0, len(vault)) + vault
    return b"%b%b%b" % (
        _ABOUT.pack(_INDEX[event.name], 1, len(vault)),
        vault,
        event.group.encode(errors="surrogatepass"),
    )


def _decode_about(user: str, about: bytes) -> Event:
    index, grouped, vault_size = _ABOUT.unpack_from(about)
    name = _NAMES[index]
    end = _ABOUT.size + vault_size
    vault = None if name.kind is EventKind.USER else about[_ABOUT.size : end].decode()
    group = about[end:].decode(errors="surrogatepass") if grouped else None
    return Event(name, user, vault, group, b"")


def _is_number(digits: str) -> bool:
    return digits.isascii() and digits.isdecimal() and len(digits) <= 20
