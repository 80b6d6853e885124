"""One user's stream as this node follows it: pure, without I/O.

A live message says what came before it. As long as that is what was taken in last, nothing is missing. Once
it isn't, the stream is read until nothing newer is heard of.
"""

from collections.abc import Sequence
from enum import Enum

from attrs import define, field, frozen

from localful_ws.engine import Entry

Id = tuple[int, int]
BEGINNING: Id = (0, 0)


@frozen
class Live:
    """A message: what was published at once for one user.

    Attributes:
        epoch: The stream's epoch.
        before: The id of what came before the first of the entries; without entries, of the stream's end.
        entries: The events; none if it was begun anew, or if they are to be read.
    """

    epoch: str
    before: Id
    entries: Sequence[tuple[Id, Entry]]


@frozen
class Reading:
    """What a read of a stream gave.

    Attributes:
        epoch: The stream's epoch.
        last: The id of its last event.
        more: Whether there is more than was allowed.
        before: The id of what came before the first of the entries.
        entries: What comes after the id that the read began with.
    """

    epoch: str
    last: Id
    more: bool
    before: Id
    entries: Sequence[tuple[Id, Entry]]

    def follows(self, epoch: str, place: Id) -> bool:
        """Whether this is all that comes after this place, as far as it was allowed."""
        if self.epoch != epoch:
            return False
        if not self.entries:
            return place == self.last
        return self.before == place and (self.more or self.entries[-1][0] == self.last)


class Outcome(Enum):
    """What became of a read."""

    UP_TO_DATE = "up to date"
    READ_ON = "read on"
    LOST = "lost"


@define(eq=False)
class Feed:
    """What this node knows of a user's stream.

    Attributes:
        epoch: Its epoch; empty before the first read.
        last: The id of what was taken in last.
        behind: Whether it has to be read.
        noticed: Whether a message was dropped since the last read began.
        watches: Where what is taken in is noted, for those that are joining.
    """

    epoch: str = ""
    last: Id = BEGINNING
    behind: bool = True
    noticed: bool = False
    watches: list["Watch"] = field(factory=list)

    def hear(self, live: Live) -> Sequence[Entry]:
        """Take in a message, if it is next; what is to be routed."""
        if not self.behind and live.epoch == self.epoch:
            end = live.entries[-1][0] if live.entries else live.before
            if end <= self.last:
                return ()
            if live.before == self.last:
                return self._take_in(live.entries)
        self.fall_behind()
        return ()

    def fall_behind(self) -> None:
        """Have the stream read, since a message can't be taken in."""
        self.behind = True
        self.noticed = True

    def begin_reading(self) -> Id:
        """The id after which to read."""
        self.noticed = False
        return self.last

    def take_reading(self, reading: Reading) -> tuple[Outcome, Sequence[Entry]]:
        """Take in what was read; what became of it, and what is to be routed."""
        if not self.epoch:
            self.epoch, self.last = reading.epoch, reading.last
            return self._conclude(more=False), ()
        if not reading.follows(self.epoch, self.last):
            self.epoch, self.last = reading.epoch, reading.last
            for watch in self.watches:
                watch.broken = True
            self._conclude(more=False)
            return Outcome.LOST, ()
        return self._conclude(more=reading.more), self._take_in(reading.entries)

    def _conclude(self, *, more: bool) -> Outcome:
        self.behind = more or self.noticed
        return Outcome.READ_ON if self.behind else Outcome.UP_TO_DATE

    def _take_in(self, entries: Sequence[tuple[Id, Entry]]) -> Sequence[Entry]:
        if entries:
            self.last = entries[-1][0]
        for watch in self.watches:
            watch.entries.extend(entries)
        return [entry for _, entry in entries]


@define(eq=False)
class Watch:
    """What a feed took in while somebody was joining.

    Attributes:
        entries: All of it.
        broken: Whether something was lost.
    """

    entries: list[tuple[Id, Entry]] = field(factory=list)
    broken: bool = False
