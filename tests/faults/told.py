"""Whether devices were told what publishers were promised, as far as publishers and devices can know.

A failover may lose what was in a stream, so that no Redis knows in the end what was in it. What is known is
when each event was sent and accepted, and what each device was told and when, all on one clock. An event that
was sent after another had been accepted lies after it in the stream. Cursors are compared, and never read.
Pure: records in, complaints out.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from attrs import Factory, define, frozen

from .check import Published
from .devices import Authenticated, Ended, Received, Record, Refused
from .reader import EXPECTED_CLOSES, EXPECTED_REFUSALS, NOTICES, Audience


@frozen
class Sent:
    """An event that was sent to be published.

    Attributes:
        event: The event.
        began: When it was sent first, on Trio's clock.
        accepted: When the publisher learned that it is accepted; infinite if it never did.
        tries: How often it was sent.
    """

    event: Published
    began: float
    accepted: float
    tries: int = 1


@frozen
class Told:
    """What a device was told.

    Attributes:
        audience: The device.
        user: Its user.
        log: All it was told.
        times: When, on Trio's clock.
    """

    audience: Audience
    user: str
    log: Sequence[Record]
    times: Sequence[float]


def check_told(devices: Iterable[Told], sent: Iterable[Sent], lossy: Collection[str] = ()) -> list[str]:
    """See that each device got what concerns it: all that is accepted, in order, once; or was told otherwise.

    What a device missed before it was told ``"resumed": false`` is forgiven, and nothing else is. All must
    have been quiet when the logs end.

    Args:
        devices: The devices.
        sent: All that was sent, in the order of each publisher.
        lossy: Users whose stream may have lost its end. What was sent again may then have been in it twice: a
            device may get it again, though only after it was told.

    Returns:
        What is wrong: of each device the first thing, and then where devices do not agree.
    """
    by_user: dict[str, list[Sent]] = defaultdict(list)
    for each in sent:
        by_user[each.event.user].append(each)
    grouped: dict[str, list[Told]] = defaultdict(list)
    for device in devices:
        grouped[device.user].append(device)
    complaints = []
    for user, group in grouped.items():
        order = _Order()
        ledger = _Ledger(by_user[user], lossy=user in lossy)
        followers = [_Follower(told, ledger, order) for told in group]
        found = [follower.follow() for follower in followers]
        found += [follower.end() for follower, wrong in zip(followers, found, strict=True) if wrong is None]
        complaints += [complaint for complaint in found if complaint is not None]
        complaints += [f"{user}'s devices: {complaint}" for complaint in order.complaints(ledger)]
    return complaints


def had_by_everybody(devices: Iterable[Told], sent: Iterable[Sent]) -> set[str]:
    """The ids of events that every device has got that should."""
    grouped: dict[str, list[tuple[Audience, set[str]]]] = defaultdict(list)
    for told in devices:
        got = {_id_of(record) for record in told.log if isinstance(record, Received)}
        grouped[told.user].append((told.audience, got))
    return {
        each.event.id
        for each in sent
        if all(
            each.event.id in got or not audience.gets(each.event)
            for audience, got in grouped[each.event.user]
        )
    }


class _Ledger:
    """A user's events, and where each stands among its publisher's.

    Attributes:
        lossy: Whether the stream may have lost its end.
        by_id: The events.
        place: Where each stands among those of its publisher.
        accepted: Those that were accepted, in the order in which they were.
        of_publisher: Each publisher's.
    """

    def __init__(self, sent: Sequence[Sent], *, lossy: bool) -> None:
        self.lossy = lossy
        self.by_id = {each.event.id: each for each in sent}
        self.of_publisher: dict[str, list[Sent]] = defaultdict(list)
        self.place: dict[str, int] = {}
        for each in sent:
            mine = self.of_publisher[each.event.publisher]
            self.place[each.event.id] = len(mine)
            mine.append(each)
        self.accepted = sorted((each for each in sent if each.accepted < math.inf), key=_accepted)


class _Order:
    """What follows what on any device, by cursors; the order that all have in common."""

    def __init__(self) -> None:
        self.ids: dict[str, set[str]] = defaultdict(set)
        self._next: dict[str, set[str]] = defaultdict(set)

    def add(self, before: str | None, cursor: str, publish_id: str) -> None:
        """A device was told of an event, and of nothing between it and the cursor before."""
        self.ids[cursor].add(publish_id)
        if before is not None and before != cursor:
            self._next[before].add(cursor)

    def after(self, cursor: str) -> set[str]:
        """The ids of events that lie after a cursor, by what the devices were told."""
        seen, left = {cursor}, [cursor]
        while left:
            for following in self._next.get(left.pop(), ()):
                if following not in seen:
                    seen.add(following)
                    left.append(following)
        return {each for one in seen - {cursor} for each in self.ids[one]}

    def complaints(self, ledger: _Ledger) -> list[str]:
        """Where the devices do not agree."""
        complaints = [
            f"{' and '.join(sorted(ids))} have the cursor {cursor}"
            for cursor, ids in self.ids.items()
            if len(ids) > 1
        ]
        cursors: dict[str, set[str]] = defaultdict(set)
        for cursor, ids in self.ids.items():
            for publish_id in ids:
                cursors[publish_id].add(cursor)
        complaints += [
            f"{publish_id} has the cursors {' and '.join(sorted(several))}"
            for publish_id, several in cursors.items()
            if len(several) > 1 and not (ledger.lossy and ledger.by_id[publish_id].tries > 1)
        ]
        try:
            TopologicalSorter(self._next).prepare()
        except CycleError as error:
            complaints.append(f"they were told in different orders: {' '.join(error.args[1])}")
        return complaints


@define
class _Follower:
    """Follows one device's log.

    Attributes:
        told: The device.
        ledger: Its user's events.
        order: Where the order of its events goes.
    """

    told: Told
    ledger: _Ledger
    order: _Order
    _began: float = math.nan
    _cursor: str | None = None
    _beginning: str | None = None
    _connected: bool = False
    _ever: set[str] = Factory(set)
    _got: set[str] = Factory(set)
    _last: dict[str, int] = Factory(dict)
    _latest: float = -math.inf
    _passed: int = 0
    _passed_of: dict[str, int] = Factory(lambda: defaultdict(int))
    _resumed: str = ""

    def follow(self) -> str | None:
        """Follow the log; the first thing that is wrong with it comes back."""
        for number, (record, time) in enumerate(zip(self.told.log, self.told.times, strict=True)):
            complaint = self._take(record, time)
            if complaint is not None:
                return f"{self.told.audience.name}, record {number}: {complaint}"
        return None

    def end(self) -> str | None:
        """Once all of the user's devices were followed: what is missing at the end comes back."""
        name = self.told.audience.name
        if math.isnan(self._began):
            return f"{name}: it was never authenticated"
        due = self.order.after(self._beginning) if self._beginning is not None else set()
        missing = [
            each
            for each in self.ledger.accepted
            if (each.began > self._began or each.event.id in due) and self._misses(each)
        ]
        return f"{name}: {len(missing)} never came: {missing[0]}" if missing else None

    def _take(self, record: Record, time: float) -> str | None:
        match record:
            case Authenticated(since=since, resumed=resumed):
                self._connected = True
                if (since is None) != (resumed is None):
                    return f"resumed is {resumed}, and since was {since}"
                if resumed:
                    self._resumed = f" (it had resumed after {since})"
                    return None
                self._began, self._beginning, self._cursor = time, record.cursor, record.cursor
                self._got, self._last, self._latest, self._resumed = set(), {}, -math.inf, ""
            case Received():
                complaint = self._received(record)
                self._resumed = ""
                return complaint
            case Refused(code=refusal) if refusal not in EXPECTED_REFUSALS:
                return f"it was refused with {refusal}"
            case Ended(code=code, reason=reason):
                self._connected = False
                if code not in EXPECTED_CLOSES | NOTICES:
                    return f"it was closed with {code} {reason}"
            case _ if not (self._connected or isinstance(record, Refused)):
                return f"{record} came before authenticated"
        return None

    def _received(self, record: Received) -> str | None:
        if not self._connected:
            return f"{record} came before authenticated"
        publish_id = _id_of(record)
        sent = self.ledger.by_id.get(publish_id)
        if sent is None:
            return f"{record} was never published for its user"
        event = sent.event
        if (event.event, event.vault, event.data) != (record.event, record.vault, record.data):
            return f"{record} was published as {event}"
        if not self.told.audience.gets(event):
            why = "its own group's" if event.group == self.told.audience.group else "of another vault"
            return f"{record} is {why}"
        place = self.ledger.place[publish_id]
        if publish_id in self._ever:
            again = publish_id not in self._got and self.ledger.lossy and sent.tries > 1
            if not again:
                return f"{record} came again"
        if place <= self._last.get(event.publisher, -1) or sent.accepted < self._latest:
            return f"{record} came out of order"
        self.order.add(self._cursor, record.cursor, publish_id)
        self._cursor = record.cursor
        self._got.add(publish_id)
        self._ever.add(publish_id)
        self._last[event.publisher] = place
        self._latest = max(self._latest, sent.began)
        skipped = self._pass(sent, place)
        if skipped:
            return f"{len(skipped)} skipped without notice before {record}{self._resumed}: {skipped[0]}"
        return None

    def _pass(self, sent: Sent, place: int) -> list[Sent]:
        """Pass by what lies before an event; what the device should have had of that comes back."""
        before: dict[str, Sent] = {}
        accepted = self.ledger.accepted
        while self._passed < len(accepted) and accepted[self._passed].accepted < sent.began:
            passed = accepted[self._passed]
            before[passed.event.id] = passed
            self._passed += 1
        publisher = sent.event.publisher
        earlier = self.ledger.of_publisher[publisher][self._passed_of[publisher] : place]
        before |= {each.event.id: each for each in earlier}
        self._passed_of[publisher] = max(self._passed_of[publisher], place)
        return [each for each in before.values() if each.began > self._began and self._misses(each)]

    def _misses(self, sent: Sent) -> bool:
        return (
            sent.accepted < math.inf
            and sent.event.id not in self._ever
            and self.told.audience.gets(sent.event)
        )


def _accepted(sent: Sent) -> float:
    return sent.accepted


def _id_of(record: Received) -> str:
    return str(record.data["id"]) if isinstance(record.data, Mapping) and "id" in record.data else ""
