"""The memory engine's history, against what it must mean."""

from collections.abc import Iterable

import pytest
from attrs import define, evolve, field, frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from localful_ws.engine import Entry, ReplayLimits, entry_of
from localful_ws.engine.history import History, HistoryLimits
from localful_ws.protocol import Event, EventKind, EventName, encode_event, text_frame

ANY = ReplayLimits(10_000, 1024**3)
# Segments are of 64 KiB at least, and their memory is counted whole.
SEGMENT = 64 * 1024
MEBIBYTE = 1024 * 1024


def update(user: str = "ada", data: bytes = b"null") -> Event:
    return Event(EventName.USER_UPDATE, user, data=data)


def large(user: str, size: int) -> Event:
    return update(user, b'"%b"' % (b"x" * size))


def data_of(entries: Iterable[Entry] | None) -> list[bytes] | None:
    return None if entries is None else [entry.data for entry in entries]


def cursor_of(history: History, user: str, number: object) -> str:
    return f"{history.cursor(user).partition('.')[0]}.{number}"


def test_an_entry_is_framed_once_for_all() -> None:
    event = Event(EventName.ITEM_CREATE, "ada", "v", "g", b'{"a": 1}')
    entry = entry_of(event, "c.1")
    assert (entry.event, entry.cursor, entry.data) == (event, "c.1", b'{"a": 1}')
    assert entry.frame == text_frame(encode_event(event, "c.1"))
    assert evolve(entry, frame=memoryview(entry.frame)).data == entry.data
    assert "frame" not in repr(entry)


def test_what_came_after_a_cursor() -> None:
    history = History(HistoryLimits())
    start = history.cursor("ada")
    entries = [history.append(update(data=b"%d" % number), 0.0) for number in range(4)]
    history.append(update("bob"), 0.0)
    assert len(history) == 5
    assert data_of(history.since("ada", start, ANY, 0.0)) == [b"0", b"1", b"2", b"3"]
    assert data_of(history.since("ada", entries[1].cursor, ANY, 0.0)) == [b"2", b"3"]
    assert history.since("ada", entries[3].cursor, ANY, 0.0) == []
    assert history.since("ada", history.cursor("ada"), ANY, 0.0) == []


def test_a_replay_is_slices_of_what_is_there() -> None:
    history = History(HistoryLimits())
    start = history.cursor("ada")
    event = Event(EventName.VERSION_DELETE, "ada", "v", "g", b"[1]", "an-id")
    first, second = history.append(event, 0.0), history.append(event, 0.0)
    one, two = history.since("ada", start, ANY, 0.0) or ()
    assert (one.event, one.cursor, one.frame) == (evolve(event, data=b"", id=None), first.cursor, first.frame)
    assert two.event is one.event
    assert isinstance(two.frame, memoryview)
    assert two.frame == second.frame
    assert two.frame.readonly
    assert two.frame.obj is one.frame.obj  # type: ignore[union-attr]


@pytest.mark.parametrize("group", [None, "", "g", "é\U0001f600", "\ud800"])
@pytest.mark.parametrize("name", EventName)
def test_what_decides_who_gets_it_comes_back(name: EventName, group: str | None) -> None:
    history = History(HistoryLimits())
    start = history.cursor("ada")
    vault = None if name.kind is EventKind.USER else 'v"é\U0001f600'
    event = Event(name, "ada", vault, group, b"1")
    history.append(event, 0.0)
    (entry,) = history.since("ada", start, ANY, 0.0) or ()
    assert entry.event == evolve(event, data=b"")
    assert entry.event.content_of == event.content_of


@pytest.mark.parametrize("cursor", ["", "x", ".", "1", "a.b", "A.1", "é.1", "x.99999999999999999999999"])
def test_what_is_no_cursor(cursor: str) -> None:
    history = History(HistoryLimits())
    history.append(update(), 0.0)
    assert history.since("ada", cursor, ANY, 0.0) is None


@pytest.mark.parametrize("number", ["", "-1", "0x1", "1_0", "\u0661", "9" * 21])
def test_what_is_no_number(number: str) -> None:
    history = History(HistoryLimits())
    history.append(update(), 0.0)
    assert history.since("ada", cursor_of(history, "ada", number), ANY, 0.0) is None


def test_cursors_of_others() -> None:
    history, earlier = History(HistoryLimits()), History(HistoryLimits())
    mine = history.append(update("ada"), 0.0).cursor
    assert history.since("bob", mine, ANY, 0.0) is None
    assert history.since("ada", earlier.append(update("ada"), 0.0).cursor, ANY, 0.0) is None
    assert history.since("ada", cursor_of(history, "ada", 1), ANY, 0.0) == []
    assert history.since("ada", cursor_of(history, "ada", 2), ANY, 0.0) is None  # not there yet


def test_only_the_newest_of_a_user_are_told() -> None:
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


def test_only_the_newest_in_time_are_told() -> None:
    history = History(HistoryLimits(seconds=300))
    first = history.append(update(), 0.0).cursor
    second = history.append(update(), 100.0).cursor
    start = history.cursor("bob")
    history.append(update("eve"), 200.0)  # and so the others' memory stays
    assert len(history.since("ada", first, ANY, 399.9) or ()) == 1
    assert history.since("ada", first, ANY, 400.0) is None
    assert history.since("ada", second, ANY, 10_000.0) == []  # nothing was missed
    assert history.since("bob", start, ANY, 10_000.0) == []


@pytest.mark.parametrize("occasion", ["append", "since"])
def test_memory_is_given_back_when_all_in_it_is_too_old(occasion: str) -> None:
    history = History(HistoryLimits(seconds=300, bytes=4 * MEBIBYTE))
    empty = history.bytes
    for number in range(60):
        history.append(large("ada", 30_000), number)
    full = history.bytes
    assert empty == 0
    assert full > 60 * 30_000
    if occasion == "since":
        history.since("ada", history.cursor("ada"), ANY, 340.0)
    else:
        history.append(update(), 340.0)
    assert 10 * SEGMENT < history.bytes < full - 19 * SEGMENT
    assert len(history) < 22
    history.since("ada", history.cursor("ada"), ANY, 1000.0)
    assert history.bytes < 1024  # ada is remembered
    assert len(history) == 0


def test_the_oldest_of_all_go_together_when_memory_is_full() -> None:
    history = History(HistoryLimits(bytes=600_000))
    starts = {user: history.cursor(user) for user in ("ada", "bob", "eve")}
    seconds = {user: history.append(large(user, 30_000), 0.0).cursor for user in ("ada", "bob")}
    history.append(update("eve", b'"the second segment"'), 0.0)
    for number in range(13):
        history.append(large(f"u{number % 4}", 40_000), 0.0)  # one to a segment
        assert history.bytes <= 600_000
        told = [data_of(history.since(user, start, ANY, 0.0)) for user, start in starts.items()]
        if number < 8:
            assert [told and len(told) for told in told] == [1, 1, 1]
    assert told == [None, None, None]
    assert [history.since(user, cursor, ANY, 0.0) for user, cursor in seconds.items()] == [[], []]
    assert history.bytes > 450_000


def test_an_event_has_a_segment_of_its_own_if_it_must() -> None:
    history = History(HistoryLimits(bytes=MEBIBYTE))
    start = history.cursor("ada")
    sizes = [10, 100_000, 20, SEGMENT, 300_000, 30]
    for size in sizes:
        history.append(large("ada", size), 0.0)
    missed = history.since("ada", start, ANY, 0.0) or ()
    assert [len(entry.data) for entry in missed] == [size + 2 for size in sizes]
    assert sum(sizes) < history.bytes < sum(sizes) + 4 * SEGMENT


def test_an_event_that_is_too_large_is_not_kept_and_the_others_are() -> None:
    history = History(HistoryLimits(bytes=MEBIBYTE))
    start, other = history.cursor("ada"), history.cursor("bob")
    history.append(update("ada"), 0.0)
    history.append(update("bob"), 0.0)
    after = history.append(large("ada", 900_000), 0.0)
    assert len(after.frame) > 900_000
    assert history.since("ada", start, ANY, 0.0) is None
    assert history.since("ada", after.cursor, ANY, 0.0) == []
    assert len(history.since("bob", other, ANY, 0.0) or ()) == 1
    history.append(update("ada", b"7"), 0.0)
    assert data_of(history.since("ada", after.cursor, ANY, 0.0)) == [b"7"]


@pytest.mark.parametrize(
    "off",
    [HistoryLimits(events=0), HistoryLimits(seconds=0), HistoryLimits(bytes=0), HistoryLimits(bytes=5000)],
)
def test_switched_off(off: HistoryLimits) -> None:
    history = History(off)
    start = history.cursor("ada")
    cursor = history.append(update(), 0.0).cursor
    assert history.since("ada", start, ANY, 0.0) is None
    assert history.since("ada", cursor, ANY, 0.0) == []
    assert history.bytes <= 1024
    assert len(history) == 0


# Two frames of 1,060 to 1,070 bytes come after the cursor.
@pytest.mark.parametrize("limits", [ReplayLimits(1, 1024**3), ReplayLimits(10, 2100), ReplayLimits(0, 0)])
def test_more_than_may_be_told_at_once(limits: ReplayLimits) -> None:
    history = History(HistoryLimits())
    start = history.append(update(), 0.0).cursor
    frames = [history.append(large("ada", 1000), 0.0).frame for _ in range(2)]
    assert history.since("ada", start, limits, 0.0) is None
    assert history.since("ada", history.cursor("ada"), limits, 0.0) == []
    exactly = ReplayLimits(2, sum(map(len, frames)))
    assert len(history.since("ada", start, exactly, 0.0) or ()) == 2


@pytest.mark.parametrize("seconds", [1.0, 1e9])
def test_users_are_forgotten_too(seconds: float) -> None:
    history = History(HistoryLimits(seconds=seconds, bytes=100_000))
    quiet = history.cursor("quiet")
    for number in range(10_000):
        start = history.cursor("new")
        history.append(update(f"u{number}"), number * 2.0)
        assert history.bytes <= 100_000
    assert history.since("quiet", quiet, ANY, 30_000.0) is None  # it might have missed something
    assert history.since("quiet", history.cursor("quiet"), ANY, 30_000.0) == []
    history.append(update("new"), 30_000.0)
    assert len(history.since("new", start, ANY, 30_000.0) or ()) == 1
    assert history.since("new", cursor_of(history, "new", 1), ANY, 30_000.0) is None


def test_those_quiet_for_longest_are_forgotten_first() -> None:
    history = History(HistoryLimits(seconds=1, bytes=100_000))
    asked = []
    for number in range(1000):
        history.append(update("loud"), number)
        history.append(update(f"u{number}"), number)
        asked.append(history.cursor("new"))
        assert history.since("new", asked[max(0, number - 20)], ANY, number) == []
    assert history.since("new", asked[0], ANY, number) is None


def test_users_leave_room_for_events() -> None:
    history = History(HistoryLimits(seconds=1e9, bytes=1_000_000))
    for number in range(5000):
        history.append(update(f"u{number}", b""), 0.0)
    start = history.cursor("ada")
    for _ in range(18):
        history.append(large("ada", 30_000), 0.0)
    assert len(history.since("ada", start, ANY, 0.0) or ()) == 18


def test_an_event_that_cannot_be_encoded_is_lost_to_its_user_only() -> None:
    history = History(HistoryLimits())
    start, other = history.cursor("ada"), history.cursor("bob")
    history.append(update(data=b"1"), 0.0)
    for user in ("ada", "new"):
        with pytest.raises(UnicodeEncodeError):
            history.append(Event(EventName.VAULT_CREATE, user, "\ud800"), 0.0)
    history.append(update("bob", b"2"), 0.0)
    after = history.cursor("ada")
    history.append(update("ada", b"3"), 0.0)
    assert history.since("ada", start, ANY, 0.0) is None
    assert history.since("new", cursor_of(history, "new", 0), ANY, 0.0) is None
    assert data_of(history.since("ada", after, ANY, 0.0)) == [b"3"]
    assert data_of(history.since("bob", other, ANY, 0.0)) == [b"2"]


class TestHeld:
    """Replays that somebody still holds while what they are slices of is forgotten."""

    LIMIT = MEBIBYTE

    def fill(self, history: History, user: str, events: int = 40) -> None:
        for _ in range(events):
            history.append(large(user, 30_000), 0.0)
            assert history.bytes <= self.LIMIT

    def test_what_is_held_stays_as_it_is_and_counts(self) -> None:
        history = History(HistoryLimits(bytes=self.LIMIT))
        start = history.cursor("ada")
        for number in range(20):
            history.append(update("ada", b'"%d%b"' % (number, b"x" * 30_000)), 0.0)
        held = history.since("ada", start, ANY, 0.0) or ()
        before = [bytes(entry.frame) for entry in held]
        self.fill(history, "bob")
        assert [bytes(entry.frame) for entry in held] == before
        assert len(before) == 20
        assert history.since("ada", start, ANY, 0.0) is None
        # Ten of some fifteen segments are held, and the others have to do.
        assert 6 <= len(history) <= 12

    def test_others_are_given_copies_meanwhile(self) -> None:
        history = History(HistoryLimits(bytes=self.LIMIT))
        start = history.cursor("ada")
        self.fill(history, "ada", 10)
        held = history.since("ada", start, ANY, 0.0)
        self.fill(history, "bob")
        last = history.cursor("bob")
        self.fill(history, "bob", 2)
        copies = history.since("bob", last, ANY, 0.0) or ()
        assert [type(entry.frame) for entry in copies] == [bytes, bytes]
        assert len(copies[0].data) == 30_002
        assert held is not None
        del held
        slices = history.since("bob", last, ANY, 0.0) or ()
        assert [type(entry.frame) for entry in slices] == [memoryview, memoryview]
        assert slices[0].frame == copies[0].frame

    def test_memory_is_given_back_when_they_let_go(self) -> None:
        history = History(HistoryLimits(bytes=self.LIMIT, seconds=10))
        start = history.cursor("ada")
        self.fill(history, "ada", 20)
        held = history.since("ada", start, ANY, 0.0)
        cursor = history.cursor("ada")
        assert history.since("ada", cursor, ANY, 100.0) == []
        assert history.bytes > 20 * 30_000
        assert len(history) == 0
        assert held is not None
        del held
        assert history.since("ada", cursor, ANY, 100.0) == []
        assert history.bytes < 1024

    def test_nothing_is_kept_if_all_memory_is_held(self) -> None:
        history = History(HistoryLimits(bytes=self.LIMIT))
        start = history.cursor("ada")
        self.fill(history, "ada", 30)
        held = history.since("ada", start, ANY, 0.0)
        self.fill(history, "bob")
        assert len(history) == 0
        assert history.bytes > 0.9 * self.LIMIT
        for number in range(1000):  # and users are forgotten for the little room that there is
            after = history.append(update(f"u{number}"), 0.0)
            assert history.bytes <= self.LIMIT
        assert history.since("u999", after.cursor, ANY, 0.0) == []
        assert history.since("u999", cursor_of(history, "u999", 1), ANY, 0.0) is None
        assert held is not None
        del held
        history.append(update("u999"), 0.0)
        assert len(history.since("u999", after.cursor, ANY, 0.0) or ()) == 1


@frozen
class Appended:
    """An event, and when it was appended."""

    event: Event
    entry: Entry
    at: float


@define
class Told:
    """A cursor that somebody was given, and what has come since."""

    user: str
    cursor: str
    since: list[Appended] = field(factory=list)


USERS = st.sampled_from("abc")
EVENTS = st.sampled_from(
    [
        (EventName.USER_UPDATE, None, None),
        (EventName.USER_DELETE, None, "g"),
        (EventName.VAULT_DELETE, "v", None),
        (EventName.ITEM_CREATE, "v", ""),
        (EventName.ITEM_CREATE, "é", "g"),
    ]
)


class HistoryMachine(RuleBasedStateMachine):
    """Whatever is forgotten: an answer is all that came since, or None."""

    limits = HistoryLimits(events=4, seconds=10.0, bytes=8 * MEBIBYTE)
    sizes = (0, 2000, 70_000)

    def __init__(self) -> None:
        super().__init__()
        self.history = History(self.limits)
        self.now = 0.0
        self.number = 0
        self.told: list[Told] = []

    @rule(user=USERS, kind=EVENTS, data=st.data())
    def appended(
        self, user: str, kind: tuple[EventName, str | None, str | None], data: st.DataObject
    ) -> None:
        self.number += 1
        size = data.draw(st.sampled_from(self.sizes))
        event = Event(kind[0], user, kind[1], kind[2], b'"%d%b"' % (self.number, b" " * size))
        before = Told(user, self.history.cursor(user))
        self.told.append(before)
        entry = self.history.append(event, self.now)
        assert entry == entry_of(event, entry.cursor)
        for told in self.told:
            if told.user == user:
                told.since.append(Appended(event, entry, self.now))
        self.told.append(Told(user, entry.cursor))
        self.look_at_newest(before)

    def look_at_newest(self, before: Told) -> None:
        """What was appended just now is told."""
        assert self.answer(before) is not None

    @rule(user=st.sampled_from("abcd"))
    def asks(self, user: str) -> None:
        self.told.append(Told(user, self.history.cursor(user)))

    @rule(seconds=st.sampled_from([0.5, 6.0, 10.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data(), most=st.integers(0, 5), size=st.sampled_from([0, 2200, 80_000, 10**6]))
    def asks_for_a_few(self, data: st.DataObject, most: int, size: int) -> None:
        if self.told:
            told = data.draw(st.sampled_from(self.told))
            self.check(told, ReplayLimits(most, size))
            if told.user != "a":
                assert self.history.since("a", told.cursor, ANY, self.now) is None

    def answer(self, told: Told, limits: ReplayLimits = ANY) -> list[Entry] | None:
        """What is told, compared with what came."""
        answer = self.history.since(told.user, told.cursor, limits, self.now)
        if answer is None:
            return None
        assert [(entry.event, entry.cursor, bytes(entry.frame)) for entry in answer] == [
            (evolve(each.event, data=b""), each.entry.cursor, each.entry.frame) for each in told.since
        ]
        return list(answer)

    def check(self, told: Told, limits: ReplayLimits) -> None:
        """It must be told exactly if it isn't too much and too old."""
        due = (
            len(told.since) <= min(self.limits.events, limits.max_events)
            and sum(len(each.entry.frame) for each in told.since) <= limits.max_bytes
            and all(self.now - each.at < self.limits.seconds for each in told.since)
        )
        assert (self.answer(told, limits) is not None) == due

    @invariant()
    def nothing_else_is_told(self) -> None:
        assert self.history.bytes <= self.limits.bytes
        for told in self.told:
            self.check(told, ANY)


class SmallHistoryMachine(HistoryMachine):
    """One that forgets before the time, while some hold what they were told."""

    limits = HistoryLimits(events=4, seconds=10.0, bytes=24_000)
    sizes = (0, 2000, 9000)

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[list[Entry], list[bytes]]] = []

    @rule(data=st.data())
    def holds(self, data: st.DataObject) -> None:
        if self.told and (answer := self.answer(data.draw(st.sampled_from(self.told)))):
            self.held.append((answer, [bytes(entry.frame) for entry in answer]))

    @rule()
    def lets_go(self) -> None:
        self.held.clear()

    def look_at_newest(self, before: Told) -> None:
        if not self.held:
            super().look_at_newest(before)

    def check(self, told: Told, limits: ReplayLimits) -> None:
        """It may be forgotten, but for what nobody came after."""
        if self.answer(told, limits) is not None:
            assert len(told.since) <= min(self.limits.events, limits.max_events)
            assert all(self.now - each.at < self.limits.seconds for each in told.since)
        else:
            assert told.since or told.user == "d"

    @invariant()
    def what_is_held_does_not_change(self) -> None:
        for entries, frames in self.held:
            assert [bytes(entry.frame) for entry in entries] == frames


TestHistory = HistoryMachine.TestCase
TestHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSmallHistory = SmallHistoryMachine.TestCase
TestSmallHistory.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
