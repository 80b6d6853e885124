"""A stream as a node follows it, case by case; `test_streams_model` plays at random."""

import json

import pytest

from localful_ws.engine import Entry, entry_of
from localful_ws.engine.redis.feeds import BEGINNING, Feed, Id, Live, Outcome, Reading, Watch
from localful_ws.protocol import Event, EventName


def entry(number: int, place: Id) -> tuple[Id, Entry]:
    """An event with a number, at a place."""
    event = Event(EventName.USER_UPDATE, "ada", None, None, b"%d" % number)
    return place, entry_of(event, f"e.{place[0]}-{place[1]}")


def at(*places: int) -> list[tuple[Id, Entry]]:
    """Events at the places 1-0, 2-0 and so on, named by the first number."""
    return [entry(place, (place, 0)) for place in places]


def numbers(entries: object) -> list[int]:
    assert isinstance(entries, list | tuple)
    return [json.loads(each.event.data) for each in entries]


def live(before: int, *places: int, epoch: str = "a") -> Live:
    return Live(epoch, (before, 0), at(*places))


def reading(
    before: int, *places: int, epoch: str = "a", last: int | None = None, more: bool = False
) -> Reading:
    end = places[-1] if places and last is None else last or 0
    return Reading(epoch, (end, 0), more, (before, 0), at(*places))


def make_feed(last: int = 5) -> Feed:
    """A feed that has taken in all up to an event, and is not behind."""
    feed = Feed()
    assert feed.begin_reading() == BEGINNING
    assert feed.take_reading(Reading("a", (last, 0), False, BEGINNING, ())) == (Outcome.UP_TO_DATE, ())
    assert (feed.epoch, feed.last, feed.behind) == ("a", (last, 0), False)
    return feed


def test_a_message_is_taken_in_if_it_is_next() -> None:
    feed = make_feed()
    assert numbers(feed.hear(live(5, 6))) == [6]
    assert numbers(feed.hear(live(6, 7, 8))) == [7, 8]
    assert (feed.last, feed.behind) == ((8, 0), False)


def test_a_message_that_was_taken_in_before_is_dropped() -> None:
    feed = make_feed()
    for message in (live(3, 4), live(3, 4, 5), live(4, 5)):
        assert numbers(feed.hear(message)) == []
    assert not feed.behind


@pytest.mark.parametrize("message", [live(6, 7), live(4, 6), live(5, 6, epoch="b"), live(0, 1, epoch="b")])
def test_a_message_that_is_not_next_has_the_stream_read(message: Live) -> None:
    feed = make_feed()
    assert numbers(feed.hear(message)) == []
    assert (feed.behind, feed.last) == (True, (5, 0))
    assert feed.begin_reading() == (5, 0)


def test_what_is_read_is_taken_in() -> None:
    feed = make_feed()
    feed.hear(live(6, 7))
    feed.begin_reading()
    outcome, entries = feed.take_reading(reading(5, 6, 7))
    assert (outcome, numbers(entries)) == (Outcome.UP_TO_DATE, [6, 7])
    assert numbers(feed.hear(live(7, 8))) == [8]


def test_a_message_without_events_says_where_the_stream_ends() -> None:
    feed = make_feed()
    for end in (4, 5):
        assert numbers(feed.hear(live(end))) == []
        assert not feed.behind
    assert numbers(feed.hear(live(7))) == []
    assert feed.behind
    feed.begin_reading()
    assert numbers(feed.take_reading(reading(5, 6, 7))[1]) == [6, 7]
    assert not feed.behind


def test_it_is_read_in_portions() -> None:
    feed = make_feed()
    feed.fall_behind()
    feed.begin_reading()
    outcome, entries = feed.take_reading(reading(5, 6, 7, last=9, more=True))
    assert (outcome, numbers(entries), feed.behind) == (Outcome.READ_ON, [6, 7], True)
    assert numbers(feed.hear(live(9, 10))) == []
    assert feed.begin_reading() == (7, 0)
    outcome, entries = feed.take_reading(reading(7, 8, 9, 10))
    assert (outcome, numbers(entries), feed.behind) == (Outcome.UP_TO_DATE, [8, 9, 10], False)


def test_what_is_heard_while_it_is_read_is_not_missed() -> None:
    feed = make_feed()
    feed.fall_behind()
    feed.begin_reading()
    heard = numbers(feed.hear(live(5, 6)))
    # The read was done before.
    _, entries = feed.take_reading(reading(0, last=5))
    heard += numbers(entries)
    while feed.behind:
        feed.begin_reading()
        _, entries = feed.take_reading(reading(5, 6) if feed.last == (5, 0) else reading(0, last=6))
        heard += numbers(entries)
    assert heard == [6]


@pytest.mark.parametrize(
    "lost",
    [
        reading(7, 8),  # trimmed
        reading(0, last=6),  # all of it
        reading(0, last=5, epoch="b"),
        reading(5, 6, epoch="b"),
        reading(0, last=0, epoch="b"),
        reading(0, last=4),  # Redis went back
        reading(4, 6),  # and on
    ],
)
def test_what_can_not_be_had_any_more_is_lost(lost: Reading) -> None:
    feed = make_feed()
    watch = Watch()
    feed.watches.append(watch)
    feed.fall_behind()
    feed.begin_reading()
    outcome, entries = feed.take_reading(lost)
    assert (outcome, numbers(entries), watch.broken) == (Outcome.LOST, [], True)
    assert (feed.epoch, feed.last, feed.behind) == (lost.epoch, lost.last, False)


def test_those_who_join_know_what_is_taken_in_meanwhile() -> None:
    feed = make_feed()
    watch = Watch()
    feed.watches.append(watch)
    feed.hear(live(5, 6))
    feed.hear(live(7, 8))
    feed.begin_reading()
    feed.take_reading(reading(6, 7, 8))
    assert [place for place, _ in watch.entries] == [(6, 0), (7, 0), (8, 0)]
    assert not watch.broken
