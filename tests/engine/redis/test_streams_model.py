"""A feed and a model of a stream: each event once and in order, or it says that some are lost."""

from collections import deque
from collections.abc import Sequence

from attrs import define, evolve, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from localful_ws.engine import Entry, entry_of
from localful_ws.engine.redis.feeds import BEGINNING, Feed, Id, Live, Outcome, Reading
from localful_ws.engine.redis.keys import write_cursor
from localful_ws.protocol import Event, EventName

LOST = -1


def entry_at(epoch: str, place: Id, number: int) -> Entry:
    event = Event(EventName.USER_UPDATE, "ada", None, None, b"%d" % number)
    return entry_of(event, write_cursor(epoch, place))


@define
class Store:
    """What the scripts do, without Redis."""

    epochs: int = 0
    epoch: str = ""
    last: Id = BEGINNING
    kept: list[tuple[Id, Id, int]] = field(factory=list)
    numbers: int = 0
    now: int = 1
    messages: list[Live] = field(factory=list)

    def begin_anew(self, last: Id = BEGINNING) -> None:
        self.epochs += 1
        self.epoch, self.last, self.kept = f"e{self.epochs}", last, []

    def publish(self, count: int, history: int) -> list[int]:
        if not self.epoch:
            self.begin_anew()
        before, told, numbers = self.last, [], []
        for _ in range(count):
            place = (self.now, 0) if self.now > self.last[0] else (self.last[0], self.last[1] + 1)
            self.numbers += 1
            self.kept.append((place, self.last, self.numbers))
            told.append((place, entry_at(self.epoch, place, self.numbers)))
            numbers.append(self.numbers)
            self.last = place
        self.trim(history)
        self.messages.append(Live(self.epoch, before, told))
        return numbers

    def trim(self, history: int) -> None:
        self.kept = self.kept[max(0, len(self.kept) - history) :]

    def read(self, since: Id, most: int, taken_in: str) -> Reading:
        if not self.epoch:
            self.begin_anew()
        later = [item for item in self.kept if item[0] > since]
        if taken_in == self.epoch and (self.last < since or (later and later[0][1] < since)):
            self.begin_anew(self.last)
            self.messages.append(Live(self.epoch, self.last, []))
            later = []
        some = later[:most]
        return Reading(
            self.epoch,
            self.last,
            more=len(later) > most,
            before=some[0][1] if some else BEGINNING,
            entries=[(place, entry_at(self.epoch, place, number)) for place, _, number in some],
        )


class FeedMachine(RuleBasedStateMachine):
    """One stream, and one node that follows it over a connection that may break."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.feed = Feed()
        self.on_the_way: deque[Live] = deque()
        self.reply: Reading | None = None
        self.expected: list[int] = []
        self.taken: list[int] = []
        self.must_lose = False
        self.earliest = 1

    @initialize(history=st.integers(0, 6), before=st.integers(0, 3))
    def begin(self, history: int, before: int) -> None:
        self.history = history
        if before:
            self.store.publish(before, history)
            self.store.messages.clear()
        self.ask(0)
        self.take_reply()
        assert self.taken == []

    # --- Redis ---

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        self.expected += self.store.publish(count, self.history)
        self.send()

    @rule(step=st.integers(-5, 5))
    def time(self, step: int) -> None:
        self.store.now = max(self.earliest, self.store.now + step)

    @rule()
    def history_ends(self) -> None:
        self.store.kept.clear()

    @rule()
    def flush(self) -> None:
        self.store.epoch, self.store.last, self.store.kept = "", BEGINNING, []

    @precondition(lambda self: self.store.kept)
    @rule(count=st.integers(1, 3))
    def restart_with_an_older_state(self, count: int) -> None:
        self.cut()
        gone = [number for _, _, number in self.store.kept[-count:]]
        self.store.last = self.store.kept[-count:][0][1]
        del self.store.kept[-count:]
        if self.feed.epoch == self.store.epoch and self.feed.last > self.store.last:
            self.must_lose = True
        # What nobody was told of can't be missed by anybody.
        self.expected = [number for number in self.expected if number not in gone]
        # If the clock goes back as well, an id may come again, and nobody can tell.
        self.earliest = max(self.earliest, self.feed.last[0] + 1)
        self.store.now = max(self.store.now, self.earliest)

    # --- the way to the node ---

    def send(self) -> None:
        self.on_the_way += self.store.messages
        self.store.messages.clear()

    @precondition(lambda self: self.on_the_way)
    @rule()
    def hear(self) -> None:
        self.note(self.feed.hear(self.on_the_way.popleft()))

    @precondition(lambda self: self.on_the_way)
    @rule()
    def hear_without_room(self) -> None:
        self.on_the_way.popleft()
        self.feed.fall_behind()

    @precondition(lambda self: self.on_the_way)
    @rule()
    def drop_unnoticed(self) -> None:
        self.on_the_way.popleft()

    @rule()
    def cut(self) -> None:
        self.on_the_way.clear()
        self.reply = None
        self.feed.fall_behind()

    # --- the node ---

    @precondition(lambda self: self.feed.behind and self.reply is None)
    @rule(most=st.integers(1, 3))
    def ask(self, most: int) -> None:
        self.reply = self.store.read(self.feed.begin_reading(), most, self.feed.epoch)
        self.send()

    @precondition(lambda self: self.reply is not None)
    @rule()
    def take_reply(self) -> None:
        assert self.reply is not None
        outcome, entries = self.feed.take_reading(self.reply)
        self.reply = None
        if outcome is Outcome.LOST:
            self.taken.append(LOST)
            self.must_lose = False
        self.note(entries)

    def note(self, entries: Sequence[Entry]) -> None:
        self.taken += [int(entry.event.data) for entry in entries]

    # --- what must hold ---

    @invariant()
    def in_order_and_once(self) -> None:
        numbers = [number for number in self.taken if number != LOST]
        assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        """Let all arrive, and a last event show what is missing."""
        if not self.feed.epoch:
            return
        self.publish(1)
        while self.on_the_way or self.feed.behind:
            if self.on_the_way:
                self.hear()
            if self.feed.behind:
                if self.reply is None:
                    self.ask(2)
                self.take_reply()
        assert not self.must_lose
        self.nothing_is_missed_in_silence()

    def nothing_is_missed_in_silence(self) -> None:
        left = deque(self.expected)
        may_skip = False
        for number in self.taken:
            if number == LOST:
                may_skip = True
            elif number in self.expected:  # else it was taken before it was gone from Redis
                while may_skip and left[0] != number:
                    left.popleft()
                assert left.popleft() == number
                may_skip = False
        assert not left or may_skip


TestFeed = FeedMachine.TestCase
TestFeed.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)


def reading(epoch: str, last: Id, *entries: tuple[Id, int], before: Id = BEGINNING) -> Reading:
    return Reading(
        epoch,
        last,
        more=False,
        before=before,
        entries=[(place, entry_at(epoch, place, number)) for place, number in entries],
    )


def test_what_a_reading_follows() -> None:
    one = reading("e", (5, 0), ((4, 0), 1), ((5, 0), 2), before=(3, 0))
    assert one.follows("e", (3, 0))
    assert not one.follows("f", (3, 0))
    assert not one.follows("e", (2, 0)), "something in between is gone"
    assert not one.follows("e", (3, 1)), "that id was never in this stream"
    assert not reading("e", (6, 0), ((4, 0), 1), before=(3, 0)).follows("e", (3, 0)), "the end is gone"
    assert evolve(one, last=(6, 0), more=True).follows("e", (3, 0))
    empty = reading("e", (5, 0))
    assert empty.follows("e", (5, 0))
    assert not empty.follows("e", (4, 0))
    assert not empty.follows("e", (6, 0))


def test_a_message_without_events_says_that_a_stream_was_begun_anew() -> None:
    feed = Feed()
    feed.begin_reading()
    feed.take_reading(reading("e", (5, 0)))
    assert feed.hear(Live("e", (5, 0), [])) == ()
    assert not feed.behind
    assert feed.hear(Live("f", (5, 0), [])) == ()
    assert feed.behind
