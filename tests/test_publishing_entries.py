"""Entries of the intake, good and bad."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.protocol import Event, EventName
from localful_ws.publishing import (
    Disconnect,
    PublishError,
    PublishLimits,
    decode_publish_body,
    read_intake_entry,
)
from localful_ws.steps import finish

LIMITS = PublishLimits()
UPDATE = {"event": "user-update", "user": "u1"}
CREATE = {"event": "item-create", "user": "u1", "vault": "v1", "group": "g1", "data": {"id": "i1"}}
AN_ID = "must be a string of 1 to 128 characters."
ENTRY = {b"event": b"item-create", b"user": b"u1", b"vault": b"v1", b"group": b"g1"}
AN_ENTRY_ID = "1700000000500-7"
ASKED = 1_700_000_000.5
SECONDS = 3600.0
LATER = ASKED + 86400
TOO_MANY = PublishLimits(max_event_bytes=10, max_events=2)


def decode_body(content: object) -> list[Event]:
    return decode_publish_body(json.dumps(content).encode(), LIMITS)


def decode(
    fields: dict[bytes, bytes], limits: PublishLimits = LIMITS, entry: str = AN_ENTRY_ID, now: float = LATER
) -> list[Event] | Disconnect:
    return finish(read_intake_entry(fields, entry, limits, now=now, seconds=SECONDS))


def decode_entry(fields: dict[bytes, bytes], limits: PublishLimits = LIMITS) -> list[Event]:
    events = decode(fields, limits)
    assert isinstance(events, list)
    return events


def test_an_entry_with_the_fields_of_an_event() -> None:
    made = f"intake:{AN_ENTRY_ID}"
    data = {b"data": b' {"id" : 1e999}\n'}
    expected = Event(EventName.ITEM_CREATE, "u1", "v1", "g1", b'{"id" : 1e999}', made)
    assert decode_entry(ENTRY | data | {b"later": b"\xff", b"\xff": b""}) == [expected]
    assert decode_entry({b"event": b"user-update", b"user": "\u00e4".encode(), b"id": b"own"}) == [
        Event(EventName.USER_UPDATE, "\u00e4", id="own")
    ]


def test_data_of_the_greatest_depth() -> None:
    data = b"[" * 100 + b"]" * 100
    assert decode_entry(ENTRY | {b"data": data})[0].data == data


def test_an_entry_with_a_body() -> None:
    def ids(content: object) -> list[str | None]:
        events = decode_entry({b"body": json.dumps(content).encode(), b"later": b"", b"user": b""})
        assert [evolve(event, id=None) for event in events] == [
            evolve(each, id=None) for each in decode_body(content)
        ]
        return [event.id for event in events]

    made = f"intake:{AN_ENTRY_ID}"
    assert ids(CREATE) == [made]
    assert ids(CREATE | {"id": "own"}) == ["own"]
    assert ids({"events": [CREATE]}) == [f"{made}:0"]
    assert ids({"events": [CREATE, UPDATE | {"id": "own"}, UPDATE]}) == [f"{made}:0", "own", f"{made}:2"]
    assert ids({"events": []}) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"user": "u1"}, Disconnect("u1", at=ASKED, until=ASKED + SECONDS)),
        ({"user": "u1", "group": "g1"}, Disconnect("u1", "g1", at=ASKED, until=ASKED + SECONDS)),
        ({"group": "g1", "until": ASKED + 1}, Disconnect(group="g1", at=ASKED, until=ASKED + 1)),
    ],
)
@pytest.mark.parametrize("now", [ASKED, ASKED + 0.001, LATER])
def test_an_entry_with_a_disconnect_is_the_same_whenever_it_is_read(
    body: object, expected: Disconnect, now: float
) -> None:
    fields = {b"disconnect": json.dumps(body).encode(), b"user": b"\xff", b"other": b""}
    assert decode(fields, now=now) == expected


def test_nothing_was_asked_for_in_the_future() -> None:
    """The clock of Redis may be ahead of a node's, and an id can be written by hand."""
    for entry in ("1700000000501-0", "18446744073709551615-1"):
        disconnect = decode({b"disconnect": b'{"user":"u1"}'}, entry=entry, now=ASKED)
        assert disconnect == Disconnect("u1", at=ASKED, until=ASKED + SECONDS)


@pytest.mark.parametrize(
    ("fields", "status", "key", "message"),
    [
        ({}, 422, "event", "event is missing."),
        ({b"Event": b"user-update", b"user": b"u1"}, 422, "event", "event is missing."),
        ({b"event": b"user-update"}, 422, "user", "user is missing."),
        ({b"event": b"user-update", b"user": b""}, 422, "user", f"user {AN_ID}"),
        (ENTRY | {b"group": b"x" * 129}, 422, "group", f"group {AN_ID}"),
        (ENTRY | {b"id": b""}, 422, "id", f"id {AN_ID}"),
        (
            ENTRY | {b"event": b"item-created"},
            422,
            "event",
            "There is no such event; did you mean item-create?",
        ),
        (ENTRY | {b"event": b"user-update"}, 422, "vault", "user-update is a user event and names no vault."),
        (ENTRY | {b"user": b"ada\xff"}, 400, "user", "user is not UTF-8: byte 3 is wrong."),
        (ENTRY | {b"data": b""}, 400, "data", "data is not JSON: "),
        (ENTRY | {b"data": b"i1"}, 400, "data", "data is not JSON: "),
        (ENTRY | {b"data": b'1,"user":"u2"'}, 400, "data", "data is not JSON: "),
        (ENTRY | {b"data": b'"\xff"'}, 400, "data", "data is not UTF-8: byte 1 is wrong."),
        (ENTRY | {b"data": b"[" * 101 + b"]" * 101}, 422, "data", "data is nested more than 100 deep."),
        (ENTRY | {b"data": b'{"a":' * 5000}, 422, "data", "data is nested more than 100 deep."),
        (ENTRY | {b"data": b'"\\ud83c"'}, 422, "data", "data has half a surrogate pair in it"),
        ({b"body": b'{"events":[{"data":' + b"[" * 5000}, 422, "data", "events[0]: data is nested more"),
        (ENTRY | {b"data": b'"xxxxxxxxx"'}, 413, "data", "data has 11 bytes of JSON, and may have 10."),
        (ENTRY | {b"body": b"{}"}, 422, "body", "Send either a body or the fields of an event, not both."),
        (
            {b"disconnect": b'{"user":"u1"}', b"body": b"{}"},
            422,
            "disconnect",
            "Send either a disconnect or what is to be published, not both.",
        ),
        (
            ENTRY | {b"disconnect": b'{"user":"u1"}'},
            422,
            "disconnect",
            "Send either a disconnect or what is to be published, not both.",
        ),
        ({b"disconnect": b""}, 400, None, "The body is empty; send a JSON object."),
        ({b"disconnect": b"ada"}, 400, None, "The body is not JSON: "),
        ({b"disconnect": b'{"user":"\xff"}'}, 400, None, "The body is not UTF-8: byte 9 is wrong."),
        ({b"disconnect": b"{}"}, 422, None, "Name the user to disconnect, or user and group of one login"),
        ({b"disconnect": b'{"user":""}'}, 422, "user", f"user {AN_ID}"),
        ({b"disconnect": b'{"user":"u1","until":1700000000.5}'}, 422, "until", "until must be in the future"),
        (
            {b"disconnect": b'{"user":"u1","until":1800000000000}'},
            422,
            "until",
            "until must be in Unix seconds,",
        ),
        ({b"body": b""}, 400, None, "The body is empty; send a JSON object."),
        ({b"body": b"item-create"}, 400, None, "The body is not JSON: "),
        ({b"body": b'{"events": [1]}'}, 422, None, "events[0]: It must be a JSON object."),
        ({b"body": b'{"events": [{}, {}, {}]}'}, 422, "event", "events[0]: event is missing."),
        (
            {b"body": json.dumps({"events": [UPDATE] * 3}).encode()},
            422,
            "events",
            "A batch has at most 2 events; this one has 3.",
        ),
    ],
)
def test_an_entry_that_cannot_be(
    fields: dict[bytes, bytes], status: int, key: str | None, message: str
) -> None:
    with pytest.raises(PublishError) as raised:
        decode_entry(fields, TOO_MANY)
    error = raised.value
    assert (error.status, error.context.get("key")) == (status, key)
    assert error.message.startswith(message)


@given(
    st.dictionaries(
        st.sampled_from(
            [b"event", b"user", b"vault", b"group", b"data", b"id", b"body", b"disconnect", b"other"]
        ),
        st.binary(max_size=8)
        | st.sampled_from([b"item-create", b"user-update", b"u1", b"{}", b"1", b'{"user":"u"}']),
    )
)
def test_garbage_is_refused_or_is_events(fields: dict[bytes, bytes]) -> None:
    try:
        decoded = decode(fields)
    except PublishError:
        return
    if isinstance(decoded, Disconnect):
        assert decoded.at == ASKED
        return
    for event in decoded:
        json.loads(event.data)
        assert event.id
