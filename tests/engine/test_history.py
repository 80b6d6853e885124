"""The memory engine's history, against what it must mean."""

from collections.abc import Iterable

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from localful_ws.engine import Entry, ReplayLimits
from localful_ws.engine.history import History, HistoryLimits
from localful_ws.protocol import Event, EventName

ANY = ReplayLimits(10_000, 1024**3)


def update(user: str = "ada", data: bytes = b"null") -> Event:
    return Event(EventName.USER_UPDATE, user, data=data)


def data_of(entries: Iterable[Entry] | None) -> list[bytes] | None:
    return None if entries is None else [entry.event.data for entry in entries]


def test_what_came_after_a_cursor() -> None:
    history = History(HistoryLimits())
    start = history.cursor("ada")
    entries = [history.append(update(data=b"%d" % number), 0.0) for number in range(4)]
    history.append(update("bob"), 0.0)
    assert data_of(history.since("ada", start, ANY, 0.0)) == [b"0", b"1", b"2", b"3"]
    assert data_of(history.since("ada", entries[1].cursor, ANY, 0.0)) == [b"2", b"3"]
    assert history.since("ada", entries[3].cursor, ANY, 0.0) == []
    assert history.since("ada", history.cursor("ada"), ANY, 0.0) == []


@pytest.mark.parametrize("cursor", ["", "x", ".", "1", "a.b", "A.1", "é.1", "x.99999999999999999999999"])
def test_what_is_no_cursor(cursor: str) -> None:
    history = History(HistoryLimits())
    history.append(update(), 0.0)
    assert history.since("ada", cursor, ANY, 0.0) is None


def test_cursors_of_others() -> None:
    history, earlier = History(HistoryLimits()), History(HistoryLimits())
    mine = history.append(update("ada"), 0.0).cursor
    assert history.since("bob", mine, ANY, 0.0) is None
    assert history.since("ada", earlier.append(update("ada"), 0.0).cursor, ANY, 0.0) is None
    tag, _, number = mine.partition(".")
    assert history.since("ada", f"{tag}.{int(number) + 1}", ANY, 0.0) is None  # not there yet


def test_only_the_newest_of_a_user_are_kept() -> None:
    history = History(HistoryLimits(events=2))
    cursors = [history.cursor("ada")]
    cursors += [history.append(update(data=b"%d" % number), 0.0).cursor for number in range(4)]
    assert [data_of(history.since("ada", cursor, ANY, 0.0)) for cursor in cursors] == [
        None,
        None,
        [b"2", b"3"],
        [b"3"],
        [],
    ]


def test_only_the_newest_in_time_are_kept() -> None:
    history = History(HistoryLimits(seconds=300))
    first = history.append(update(), 0.0).cursor
    second = history.append(update(), 100.0).cursor
    start = history.cursor("bob")
    assert len(history.since("ada", first, ANY, 399.9) or ()) == 1
    assert history.since("ada", first, ANY, 400.0) is None
    assert history.since("ada", second, ANY, 10_000.0) == []  # nothing was missed
    assert history.since("bob", start, ANY, 10_000.0) == []


def test_the_oldest_of_all_go_when_memory_is_full() -> None:
    history = History(HistoryLimits(bytes=11_000))
    start = history.cursor("ada")
    first = history.append(update("ada", b'"%b"' % (b"x" * 3000)), 0.0).cursor
    second = history.append(update("bob", b'"%b"' % (b"x" * 3000)), 0.0).cursor
    assert len(history.since("ada", start, ANY, 0.0) or ()) == 1
    history.append(update("bob", b'"%b"' % (b"x" * 3000)), 0.0)
    assert history.bytes <= 11_000
    assert len(history.since("bob", second, ANY, 0.0) or ()) == 1
    assert history.since("ada", first, ANY, 0.0) == []
    assert history.since("ada", start, ANY, 0.0) is None


@pytest.mark.parametrize("off", [HistoryLimits(events=0), HistoryLimits(seconds=0), HistoryLimits(bytes=0)])
def test_switched_off(off: HistoryLimits) -> None:
    history = History(off)
    start = history.cursor("ada")
    cursor = history.append(update(), 0.0).cursor
    assert history.since("ada", start, ANY, 0.0) is None
    assert history.since("ada", cursor, ANY, 0.0) == []
    assert history.bytes <= 1024


@pytest.mark.parametrize("limits", [ReplayLimits(1, 1024**3), ReplayLimits(10, 3000), ReplayLimits(0, 0)])
def test_more_than_may_be_told_at_once(limits: ReplayLimits) -> None:
    history = History(HistoryLimits())
    start = history.append(update(), 0.0).cursor
    history.append(update(data=b'"%b"' % (b"x" * 1000)), 0.0)
    history.append(update(data=b'"%b"' % (b"x" * 1000)), 0.0)
    assert history.since("ada", start, limits, 0.0) is None
    assert history.since("ada", history.cursor("ada"), limits, 0.0) == []


def test_users_are_forgotten_too() -> None:
    history = History(HistoryLimits(seconds=1, bytes=100_000))
    quiet = history.cursor("quiet")
    for number in range(10_000):
        history.append(update(f"u{number}"), number * 2.0)
        assert history.bytes <= 100_000
    assert history.since("quiet", quiet, ANY, 30_000.0) is None  # it might have missed something
    assert history.since("quiet", history.cursor("quiet"), ANY, 30_000.0) == []


@define
class Told:
    """A cursor that somebody was given, and what has come since."""

    user: str
    cursor: str
    since: list[bytes] = field(factory=list)


class HistoryMachine(RuleBasedStateMachine):
    """Whatever is forgotten: an answer is all that came since, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.history = History(HistoryLimits(events=4, seconds=10.0, bytes=12_000))
        self.now = 0.0
        self.number = 0
        self.told: list[Told] = []

    @rule(user=st.sampled_from("abc"), size=st.sampled_from([0, 2000]))
    def appended(self, user: str, size: int) -> None:
        self.number += 1
        data = b'"%d%b"' % (self.number, b" " * size)
        entry = self.history.append(update(user, data), self.now)
        for told in self.told:
            if told.user == user:
                told.since.append(data)
        self.told.append(Told(user, entry.cursor))

    @rule(user=st.sampled_from("abcd"))
    def asks(self, user: str) -> None:
        self.told.append(Told(user, self.history.cursor(user)))

    @rule(seconds=st.sampled_from([0.5, 6.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def all_or_nothing(self) -> None:
        assert self.history.bytes <= 12_000
        for told in self.told:
            answer = data_of(self.history.since(told.user, told.cursor, ANY, self.now))
            assert answer is None or answer == told.since


TestHistory = HistoryMachine.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
