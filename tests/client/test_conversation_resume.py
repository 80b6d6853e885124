"""Resuming, without I/O: where each connection begins, and what is handed over."""

import json
from typing import Any

import pytest

from localful_ws.client import ReceivedEvent, SnapshotNeeded
from localful_ws.client.conversation import Conversation
from tests.client.model_server import ModelServer, Published

ITEM = Published("item-create", "v1")
MISSED = (
    ITEM,
    Published(own=True),
    Published(),
    Published("item-create", "v2"),
    Published("item-create", "v1"),
    Published("vault-create", "v3"),
    Published("item-create", "v1", own=True),
)
HEARD = [0, 2, 4, 5]
"""Which of those the device is told of."""


def connect(conversation: Conversation, server: ModelServer) -> dict[str, Any]:
    """Connect, and let the server answer; nothing of that has arrived yet."""
    assert conversation.take_token("token") is None
    conversation.connection_opened()
    (text,) = conversation.take_outgoing()
    said: dict[str, Any] = json.loads(text)
    server.take(said)
    return said


def arrive(conversation: Conversation, server: ModelServer, count: int | None = None) -> list[Any]:
    """Let so many messages of those under way arrive, or all; returns what is handed over."""
    arriving = server.under_way[:count]
    del server.under_way[:count]
    handed_over = []
    for message in arriving:
        conversation.receive_text(json.dumps(message))
        handed_over += [arrival.content for arrival in conversation.take_arrivals()]
    return handed_over


def cut(conversation: Conversation, server: ModelServer) -> None:
    server.cut()
    conversation.connection_lost(1006, "", "It broke.", 1.0)


def positions(handed_over: list[Any]) -> list[Any]:
    """The events' places in the stream, and the notices as they are."""
    return [arrival.data if isinstance(arrival, ReceivedEvent) else arrival for arrival in handed_over]


def begun(*vaults: str) -> tuple[Conversation, ModelServer]:
    """A device that is connected and begins at the present."""
    conversation, server = Conversation(vaults), ModelServer()
    assert "since" not in connect(conversation, server)
    arrive(conversation, server)
    return conversation, server


def test_the_first_connection_begins_with_a_snapshot() -> None:
    conversation, server = Conversation(["v1"]), ModelServer()
    server.publish(ITEM)
    assert "since" not in connect(conversation, server)
    server.publish(ITEM, Published())
    assert positions(arrive(conversation, server)) == [SnapshotNeeded(server.cursor(1), ("v1",)), 2, 3]
    assert conversation.cursor == server.cursor(3)


def test_a_stored_cursor_begins_where_it_says() -> None:
    server = ModelServer()
    server.publish(*MISSED)
    conversation = Conversation(["v1"], server.cursor(1))
    assert connect(conversation, server)["since"] == server.cursor(1)
    assert positions(arrive(conversation, server)) == [position + 1 for position in HEARD[1:]]


def test_a_lost_connection_is_resumed() -> None:
    conversation, server = begun("v1")
    server.publish(ITEM)
    assert positions(arrive(conversation, server)) == [1]
    cut(conversation, server)
    server.publish(ITEM, ITEM)
    assert connect(conversation, server)["since"] == server.cursor(1)
    server.publish(ITEM)
    assert positions(arrive(conversation, server)) == [2, 3, 4]


@pytest.mark.parametrize("second", range(len(HEARD) + 2))
@pytest.mark.parametrize("first", range(len(HEARD) + 2))
def test_a_replay_may_be_cut_short_anywhere_and_again(first: int, second: int) -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    server.publish(*MISSED)
    told: list[Any] = []
    for arriving in (first, second):
        connect(conversation, server)
        told += positions(arrive(conversation, server, arriving))
        cut(conversation, server)
    server.publish(Published())
    connect(conversation, server)
    server.publish(Published())
    told += positions(arrive(conversation, server))
    assert told == [position + 1 for position in HEARD] + [len(MISSED) + 1, len(MISSED) + 2]


def test_the_end_of_the_stream_is_not_where_a_replay_has_come_to() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    server.publish(ITEM, ITEM)
    connect(conversation, server)
    arrive(conversation, server, 1)  # `authenticated` only, whose cursor is behind both
    cut(conversation, server)
    assert connect(conversation, server)["since"] == server.cursor(0)


def test_a_connection_lost_before_it_was_authenticated_changes_nothing() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    server.publish(ITEM)
    for _ in range(3):
        assert connect(conversation, server)["since"] == server.cursor(0)
        cut(conversation, server)
    connect(conversation, server)
    assert positions(arrive(conversation, server)) == [1]


def test_a_first_connection_lost_before_it_was_authenticated_changes_nothing() -> None:
    conversation, server = Conversation([]), ModelServer()
    connect(conversation, server)
    cut(conversation, server)
    assert "since" not in connect(conversation, server)
    assert arrive(conversation, server) == [SnapshotNeeded(server.cursor(0))]


def test_a_snapshot_is_asked_for_once() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    assert connect(conversation, server)["since"] == server.cursor(0)
    assert arrive(conversation, server) == []


@pytest.mark.parametrize("how", ["out of reach", "another stream"])
def test_what_cannot_be_told_needs_a_snapshot_in_its_place(how: str) -> None:
    conversation, server = begun("v1")
    server.publish(ITEM)
    told = positions(arrive(conversation, server))
    cut(conversation, server)
    server.publish(ITEM, ITEM)
    if how == "out of reach":
        server.reach = 2
    else:
        server.lose_stream()
    connect(conversation, server)
    server.publish(ITEM)
    told += positions(arrive(conversation, server))
    assert told == [1, SnapshotNeeded(server.cursor(3), ("v1",)), 4]
    cut(conversation, server)
    assert connect(conversation, server)["since"] == server.cursor(4)


def test_a_cursor_that_no_longer_holds_is_given_up_once_that_is_known() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    server.lose_stream()
    before = conversation.cursor
    connect(conversation, server)
    cut(conversation, server)
    assert connect(conversation, server)["since"] == before
    assert arrive(conversation, server) == [SnapshotNeeded(server.cursor(0), ("v1",))]
    cut(conversation, server)
    assert connect(conversation, server)["since"] == server.cursor(0)


def test_a_renewal_moves_the_cursor_past_what_is_not_for_this_device() -> None:
    conversation, server = begun("v1")
    server.publish(Published(own=True), Published("item-create", "v2"))
    assert arrive(conversation, server) == []
    assert conversation.cursor == server.cursor(0)
    conversation.renew("token-2")
    (renewal,) = map(json.loads, conversation.take_outgoing())
    assert "since" not in renewal
    server.take(renewal)
    assert arrive(conversation, server) == [None]
    cut(conversation, server)
    assert connect(conversation, server)["since"] == server.cursor(2)


def test_a_renewal_that_finds_the_stream_where_it_was_moves_nothing() -> None:
    conversation, server = begun("v1")
    conversation.renew("token-2")
    server.take(json.loads(conversation.take_outgoing()[0]))
    assert arrive(conversation, server) == []


def renew(conversation: Conversation, server: ModelServer, token: str) -> None:
    conversation.renew(token)
    server.take(json.loads(conversation.take_outgoing()[0]))
    arrive(conversation, server)


@pytest.mark.parametrize("replayed", [False, True])
def test_a_renewal_moves_the_cursor_only_if_no_event_has_come_since_the_answer_before(
    *, replayed: bool
) -> None:
    conversation, server = begun("v1")
    if replayed:
        cut(conversation, server)
        server.publish(Published(own=True), ITEM)
        connect(conversation, server)
    else:
        server.publish(Published(own=True), ITEM)
    assert positions(arrive(conversation, server)) == [2]
    # The event is being told to other devices still: the renewal names what was before.
    server.lag = 1
    renew(conversation, server, "token-2")
    assert conversation.cursor == server.cursor(2)
    server.lag = 0
    server.publish(Published(own=True))
    renew(conversation, server, "token-3")
    assert conversation.cursor == server.cursor(3)


def test_a_renewal_without_a_cursor_moves_nothing() -> None:
    conversation, server = begun("v1")
    conversation.renew("token-2")
    server.take(json.loads(conversation.take_outgoing()[0]))
    del server.under_way[0]["cursor"]
    assert arrive(conversation, server) == []
    assert conversation.cursor == server.cursor(0)


def test_a_vault_deleted_in_a_replay_is_not_asked_for_again() -> None:
    conversation, server = begun("v1", "v2")
    cut(conversation, server)
    server.publish(ITEM, Published("vault-delete", "v1"), ITEM, Published("item-create", "v2"))
    connect(conversation, server)
    assert positions(arrive(conversation, server, 3)) == [1, 2]
    assert conversation.vaults == ("v2",)
    cut(conversation, server)
    assert connect(conversation, server)["vaults"] == ["v2"]
    assert positions(arrive(conversation, server)) == [4]


def test_a_vault_wanted_since_the_loss_is_part_of_the_replay() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    server.publish(Published("item-create", "v2"), ITEM)
    conversation.subscribe(["v1", "v2"])
    assert connect(conversation, server)["vaults"] == ["v1", "v2"]
    assert positions(arrive(conversation, server)) == [1, 2]


def strip_cursors(server: ModelServer) -> None:
    """Make of what is under way what a server without history sends."""
    for message in server.under_way:
        message.pop("cursor", None)
        message.pop("resumed", None)


def test_a_server_without_history_needs_a_snapshot_with_every_connection() -> None:
    conversation, server = Conversation(["v1"]), ModelServer()
    for _ in range(3):
        assert "since" not in connect(conversation, server)
        server.publish(ITEM)
        strip_cursors(server)
        (notice, event) = arrive(conversation, server)
        assert notice == SnapshotNeeded(None, ("v1",))
        assert event == ReceivedEvent("item-create", "v1", len(server.stream))
        assert conversation.cursor is None
        cut(conversation, server)


def test_a_server_that_keeps_no_history_any_more_needs_a_snapshot() -> None:
    conversation, server = begun("v1")
    cut(conversation, server)
    connect(conversation, server)
    strip_cursors(server)
    assert arrive(conversation, server) == [SnapshotNeeded(None, ("v1",))]
    cut(conversation, server)
    assert "since" not in connect(conversation, server)


def test_who_did_not_ask_to_resume_has_not_resumed() -> None:
    conversation, server = Conversation([]), ModelServer()
    connect(conversation, server)
    server.under_way[0]["resumed"] = True
    assert arrive(conversation, server) == [SnapshotNeeded(server.cursor(0))]


def test_an_event_without_a_cursor_has_no_place_in_the_stream() -> None:
    conversation, server = begun("v1")
    conversation.receive_text(json.dumps({"event": "somebody-is-typing", "data": 1}))
    (arrival,) = conversation.take_arrivals()
    assert arrival.content == ReceivedEvent("somebody-is-typing", None, 1)
    assert arrival.cursor == conversation.cursor == server.cursor(0)


def test_each_arrival_knows_the_cursor_behind_it() -> None:
    conversation, server = begun("v1")
    server.publish(ITEM, Published(own=True), ITEM)
    for message in server.under_way:
        conversation.receive_text(json.dumps(message))
    assert [(arrival.content.data, arrival.cursor) for arrival in conversation.take_arrivals()] == [  # type: ignore[union-attr]
        (1, server.cursor(1)),
        (3, server.cursor(3)),
    ]
    assert conversation.take_arrivals() == []
