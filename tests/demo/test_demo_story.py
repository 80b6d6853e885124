"""The story is what the protocol's core says it is, and leaves nothing out."""

import pytest

from localful_ws.demo.story import ACTORS, SAMPLE, SCENES, Change, Fate, changes
from localful_ws.protocol import (
    Connection,
    Event,
    EventName,
    Limits,
    Rate,
    Session,
    Verdict,
    encode_event,
)

FATES = {
    Verdict.DELIVER: Fate.RECEIVED,
    Verdict.ECHO: Fate.OWN_CHANGE,
    Verdict.NOT_SUBSCRIBED: Fate.NOT_SUBSCRIBED,
    Verdict.OTHER_USER: Fate.ANOTHER_USER,
}


def event_of(change: Change) -> Event:
    group = None if change.origin is None else change.origin.group
    return Event(change.event, change.user, change.vault, group)


def test_fates_are_those_that_the_core_decides() -> None:
    connections = []
    for actor in ACTORS:
        connection = Connection(Limits(3.0, 60.0, 1000, Rate(30, 10.0)), 0.0)
        connection.accept_session(Session(actor.user, actor.group, 1000.0), 0.0, "c.0")
        vaults = ",".join(f'"{vault}"' for vault in actor.vaults)
        connection.receive_text(f'{{"vaults":[{vaults}]}}', 0.0)
        connections.append(connection)
    for change in changes():
        event = event_of(change)
        decided = tuple(FATES[connection.wants(event)] for connection in connections)
        assert decided == change.fates, change
        for connection in connections:
            connection.event_passed(event)


def test_every_event_is_published_and_every_fate_is_shown() -> None:
    assert {change.event for change in changes()} == set(EventName)
    assert {fate for change in changes() for fate in change.fates} == set(Fate)


def test_events_of_the_laptop_cover_all_eleven() -> None:
    laptop = ACTORS[0]
    assert {change.event for change in changes() if change.origin is laptop} == set(EventName)


def test_what_closes_connections_comes_last() -> None:
    assert [change.event for change in changes()].index(EventName.USER_DELETE) == len(changes()) - 1


def test_changes_can_be_told_apart_where_they_arrive() -> None:
    delivered = [change.delivered() for change in changes() if change.user == "ada"]
    assert all(delivered.count(one) == 1 for one in delivered)


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.event.value)
def test_what_is_delivered_has_the_keys_that_the_core_writes(change: Change) -> None:
    written = encode_event(event_of(change), "c.1").decode()
    assert all(f'"{key}":' in written for key in change.delivered())
    assert '"group":' not in written
    assert ("vault" in change.delivered()) == ('"vault":' in written)


def test_the_sample_is_one_of_the_changes() -> None:
    assert SAMPLE in SCENES[0].changes
    assert Fate.RECEIVED in SAMPLE.fates
