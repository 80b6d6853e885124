"""Entries of the intake, good and bad."""

import json

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.protocol import Event, EventName
from localful_ws.publishing import PublishError, PublishLimits, decode_intake_entry, decode_publish_body

LIMITS = PublishLimits()
UPDATE = {"event": "user-update", "user": "u1"}
CREATE = {"event": "item-create", "user": "u1", "vault": "v1", "group": "g1", "data": {"id": "i1"}}
AN_ID = "must be a string of 1 to 128 characters."
ENTRY = {b"event": b"item-create", b"user": b"u1", b"vault": b"v1", b"group": b"g1"}
AN_ENTRY_ID = "1700000000000-7"
TOO_MANY = PublishLimits(max_event_bytes=10, max_events=2)


def decode_body(content: object) -> list[Event]:
    return decode_publish_body(json.dumps(content).encode(), LIMITS)


def decode_entry(fields: dict[bytes, bytes], limits: PublishLimits = LIMITS) -> list[Event]:
    return decode_intake_entry(fields, AN_ENTRY_ID, limits)


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
        st.sampled_from([b"event", b"user", b"vault", b"group", b"data", b"id", b"body", b"other"]),
        st.binary(max_size=8) | st.sampled_from([b"item-create", b"user-update", b"u1", b"{}", b"1"]),
    )
)
def test_garbage_is_refused_or_is_events(fields: dict[bytes, bytes]) -> None:
    try:
        events = decode_entry(fields)
    except PublishError:
        return
    for event in events:
        json.loads(event.data)
        assert event.id
