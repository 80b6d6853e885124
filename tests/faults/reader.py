"""Follows what one device was told through its user's stream. Pure: records in, complaints out."""

from collections.abc import Sequence
from typing import Protocol

from attrs import define, field, frozen

from .aof import BEGINNING, Id, StreamEntry, parse_id
from .devices import Authenticated, Ended, Received, Record, Refused, Renewed

# A node that drains, has no engine, or was paused for longer than a device may take to authenticate.
EXPECTED_CLOSES = frozenset({None, 1001, 1013, 4408})
EXPECTED_REFUSALS = frozenset({"503", "try-again-later"})
# Slow consumer, missed events.
NOTICES = frozenset({4412, 4413})
DATA_EVENTS = frozenset({"item-create", "item-delete", "version-create", "version-delete"})


class Addressed(Protocol):
    """An event, as far as it matters who gets it."""

    @property
    def event(self) -> str:
        """Its name."""

    @property
    def vault(self) -> str | None:
        """The vault it names, if one."""

    @property
    def group(self) -> str | None:
        """Its origin group, if one."""


@frozen
class Audience:
    """Who a device is, as far as events go.

    Attributes:
        name: How it is named in complaints.
        group: Its token group.
        vaults: Its subscription.
    """

    name: str
    group: str
    vaults: tuple[str, ...]

    def gets(self, entry: Addressed) -> bool:
        """Whether an event of its user concerns it."""
        if entry.group == self.group:
            return False
        return entry.event not in DATA_EVENTS or entry.vault in self.vaults


@frozen
class Rules:
    """What may happen to devices.

    Attributes:
        always_resumes: Whether being told ``"resumed": false``, or closed with 4412 or 4413, is a fault. If
            not, what a device missed before the cursor it was given then is forgiven.
        loses_end: Whether Redis may come back without the events that were accepted last.
    """

    always_resumes: bool = True
    loses_end: bool = False


@define(eq=False)
class Stream:
    """A user's stream.

    Attributes:
        entries: What is in it in the end, or was trimmed.
        lost: What was in it before Redis came back in an older state.
    """

    entries: Sequence[StreamEntry] = ()
    lost: Sequence[StreamEntry] = ()
    by_id: dict[Id, StreamEntry] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.by_id = {entry.id: entry for entry in (*self.lost, *self.entries)}

    @property
    def end(self) -> Id:
        """The id of the last entry."""
        return self.entries[-1].id if self.entries else BEGINNING

    def way(self, here: Id, there: Id) -> list[StreamEntry] | None:
        """The entries after ``here`` up to ``there``; None if the one does not lead to the other.

        Each entry says what was before it. So there is no way from what Redis has lost to what came instead.
        """
        way = []
        while there > here and there in self.by_id:
            way.append(self.by_id[there])
            there = way[-1].before
        return way[::-1] if there == here else None


@define
class Reader:
    """Follows a device's log through the stream.

    Attributes:
        audience: The device.
        stream: Its user's stream.
        rules: What may happen.
        position: What it has been told of, so far; None before it was authenticated.
    """

    audience: Audience
    stream: Stream
    rules: Rules
    position: Id | None = field(default=None, init=False)
    _epoch: str = field(default="", init=False)
    _connected: bool = field(default=False, init=False)

    def take(self, record: Record) -> str | None:
        """Take the next record; what is wrong with it comes back."""
        match record:
            case Authenticated():
                return self._authenticated(record)
            case Renewed(cursor=cursor) | Received(cursor=cursor):
                if not self._connected or self.position is None:
                    return f"{record} came before authenticated"
                epoch, place = _parse_cursor(cursor)
                if epoch != self._epoch:
                    return f"{record} is of another stream than {self._epoch}"
                if isinstance(record, Renewed):
                    return self._renewed(record, self.position, place)
                return self._received(record, self.position, place)
            case Refused(code=refusal):
                return None if refusal in EXPECTED_REFUSALS else f"it was refused with {refusal}"
            case Ended(code=code, reason=reason):
                self._connected = False
                expected = code in EXPECTED_CLOSES or (code in NOTICES and not self.rules.always_resumes)
                return None if expected else f"it was closed with {code} {reason}"

    def end(self) -> str | None:
        """Say that nothing more will come; what is missing comes back."""
        if self.position is None:
            return "it was never authenticated"
        way = self.stream.way(self.position, self.stream.end)
        if way is None:
            return f"what it has does not lead to the end: {self.position}"
        missing = self._wanted(way)
        return f"{len(missing)} at the end never came: {missing[0]}" if missing else None

    def _authenticated(self, record: Authenticated) -> str | None:
        self._connected = True
        epoch, place = _parse_cursor(record.cursor)
        if (record.since is None) != (record.resumed is None):
            return f"resumed is {record.resumed}, and since was {record.since}"
        if self.position is not None and record.resumed:
            if epoch != self._epoch:
                return f"{record} is of another stream than {self._epoch}"
            # What was missed comes now. The cursor says how far that goes.
            return f"{record} is before what it has: {self.position}" if place < self.position else None
        before, self.position, self._epoch = self.position, place, epoch
        if before is None:
            return None
        if self.rules.always_resumes:
            return f"it could not resume after {record.since}"
        if place < before and not self.rules.loses_end:
            return f"it was told that it missed something, and put back from {before}: {record}"
        return None

    def _renewed(self, record: Renewed, position: Id, place: Id) -> str | None:
        """All that the device wants up to the cursor has come, and no more: it may resume from there."""
        if place < position:
            return f"{record} is before what it has: {position}"
        way = self.stream.way(position, place)
        if way is None:
            return f"{record} does not follow what it has: {position}"
        missing = self._wanted(way)
        if missing:
            return f"{record} came before what lies before it: {missing[0]}"
        self.position = place
        return None

    def _received(self, record: Received, position: Id, place: Id) -> str | None:
        entry = self.stream.by_id.get(place)
        if entry is None or (entry.event, entry.vault, entry.data) != (
            record.event,
            record.vault,
            record.data,
        ):
            return f"{record} is not in its user's stream"
        if not self.audience.gets(entry):
            why = "its own group's" if entry.group == self.audience.group else "of another vault"
            return f"{record} is {why}"
        if place <= position:
            return f"{record} came again, or out of order"
        way = self.stream.way(position, place)
        if way is None:
            return f"{record} does not follow what it has: {position}"
        skipped = self._wanted(way[:-1])
        if skipped:
            return f"{len(skipped)} skipped without notice before {record}: {skipped[0]}"
        self.position = place
        return None

    def _wanted(self, entries: Sequence[StreamEntry]) -> list[StreamEntry]:
        return [entry for entry in entries if self.audience.gets(entry)]


def _parse_cursor(cursor: str) -> tuple[str, Id]:
    epoch, _, entry_id = cursor.rpartition(".")
    return epoch, parse_id(entry_id)
