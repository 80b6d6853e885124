"""Bodies of publishers, good and bad."""

import json
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localful_ws.protocol import END_OF_TIME, Event, EventKind, EventName
from localful_ws.publishing import (
    Disconnect,
    PublishError,
    PublishLimits,
    decode_disconnect_body,
    decode_publish_body,
)

LIMITS = PublishLimits()
T = TypeVar("T")

NOW = 1_700_000_000.0
SECONDS = 3600.0
NOBODY = "Name the user to disconnect, or user and group of one login, or a group."
MILLISECONDS = "until must be in Unix seconds, not in milliseconds."
UPDATE = {"event": "user-update", "user": "u1"}
CREATE = {"event": "item-create", "user": "u1", "vault": "v1", "group": "g1", "data": {"id": "i1"}}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def decode(content: object, limits: PublishLimits = LIMITS) -> list[Event]:
    return decode_publish_body(json.dumps(content).encode(), limits)


def refusal(body: bytes, limits: PublishLimits = LIMITS) -> PublishError:
    with pytest.raises(PublishError) as raised:
        decode_publish_body(body, limits)
    return raised.value


def test_one_event() -> None:
    assert decode(CREATE) == [Event(EventName.ITEM_CREATE, "u1", "v1", "g1", b'{"id": "i1"}')]


def test_an_event_may_have_an_id() -> None:
    assert decode(CREATE)[0].id is None
    assert [
        event.id for event in decode({"events": [CREATE | {"id": "i"}, UPDATE, UPDATE | {"id": "i"}]})
    ] == [
        "i",
        None,
        "i",
    ]


def test_a_batch_keeps_its_order() -> None:
    assert decode({"events": [UPDATE, CREATE, UPDATE]}) == [*decode(UPDATE), *decode(CREATE), *decode(UPDATE)]


def test_a_batch_of_none_comes_to_nothing() -> None:
    assert decode({"events": []}) == []


@pytest.mark.parametrize("name", EventName)
def test_every_event(name: EventName) -> None:
    vault = None if name.kind is EventKind.USER else "v1"
    published = {"event": name.value, "user": "u1"} | ({} if vault is None else {"vault": vault})
    assert decode(published) == [Event(name, "u1", vault)]
    assert decode({"events": [published]}) == [Event(name, "u1", vault)]


def test_unknown_keys_are_ignored() -> None:
    assert decode(CREATE | {"later": [{}], "events_": 1}) == decode(CREATE)
    assert decode({"events": [CREATE | {"later": None}], "later": None}) == decode(CREATE)


def test_keys_beside_events_are_ignored() -> None:
    beside: dict[str, object] = {"user": 5, "vault": None, "group": [], "data": {}, "id": "", "later": 1}
    assert decode({"events": [UPDATE], **beside}) == decode({**beside, "events": [UPDATE]}) == decode(UPDATE)


def test_no_data_is_null() -> None:
    assert decode(UPDATE)[0].data == b"null"


@pytest.mark.parametrize(
    "data",
    [
        b'{ "a" : [1,\n 2.50e-3] }',
        b"0.10000000000000000000000001",
        b"123456789012345678901234567890",
        b"1e999",
        b"9" * 5000,
        b'{"a":1,"a":2}',
        b'"\\u00e4\\ud83d\\ude00 \xc3\xa4\xf0\x9f\x98\x80"',
        b'""',
        b"null",
    ],
)
def test_data_is_left_as_it_was(data: bytes) -> None:
    [event] = decode_publish_body(b'{"event":"user-update", "data" : %s ,"user":"u1"}' % data, LIMITS)
    assert event.data == data


@given(json_values, st.booleans())
def test_any_data_arrives_unchanged(value: object, ascii_only: bool) -> None:  # noqa: FBT001
    body = json.dumps({"events": [CREATE | {"data": value}]}, ensure_ascii=ascii_only).encode()
    [event] = decode_publish_body(body, LIMITS)
    assert json.loads(event.data) == value
    assert msgspec.json.decode(event.data) == msgspec.json.decode(json.dumps(value))


def test_an_event_does_not_keep_the_body_alive() -> None:
    body = json.dumps({"events": [CREATE] * 3}).encode()
    before = sys.getrefcount(body)
    events = decode_publish_body(body, LIMITS)
    assert sys.getrefcount(body) == before
    assert [type(event.data) for event in events] == [bytes] * 3


@pytest.mark.parametrize("key", ["user", "vault", "group", "id"])
def test_ids_of_1_to_128_characters(key: str) -> None:
    for identity in ("x", "\N{GRINNING FACE}" * 128):
        assert getattr(decode(CREATE | {key: identity})[0], key) == identity


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is empty"),
        (b" ", "The body is not JSON: "),
        (b"event=user-update", "The body is not JSON: "),
        (b'{"event": "user-update", "user": "u1"', "The body is not JSON: "),
        (b'{"event": "user-update", "user": "u1"}}', "The body is not JSON: "),
        (b'{"event": "user-update", "user": "u1", "data": NaN}', "The body is not JSON: "),
        (b'{"event": "user-update", "user": "u1", "data": 01}', "The body is not JSON: "),
        (b'{"event": "user-update", "user": "u1", "data": "\n"}', "The body is not JSON: "),
        (b'\xef\xbb\xbf{"event": "user-update", "user": "u1"}', "The body is not JSON: "),
        ('{"event": "user-update", "user": "u1"}'.encode("utf-16"), "The body is not UTF-8: byte 0 "),
        (b'{"event": "user-update", "user": "\xff"}', "The body is not UTF-8: byte 34 "),
        (b'{"event": "user-update", "user": "u1", "data": "\xff"}', "The body is not UTF-8: byte 48 "),
        (b'{"event": "user-update", "user": "u1", "\xed\xa0\x80": 1}', "The body is not UTF-8: byte 40 "),
    ],
)
def test_what_is_not_json_in_utf_8(body: bytes, message: str) -> None:
    error = refusal(body)
    assert (error.status, error.identifier, error.context) == (400, "not-json", {})
    assert error.message.startswith(message)


NO_IDS: list[object] = [1, 1.5, True, None, [], {}, "", "x" * 129]
AN_ID = "must be a string of 1 to 128 characters."


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("event", 1, "event must be the name of an event."),
        ("event", None, "event must be the name of an event."),
        ("event", "item-created", "There is no such event; did you mean item-create?"),
        ("event", "Item-Create", "There is no such event; did you mean item-create?"),
        ("event", "", f"There is no such event; there are {', '.join(name.value for name in EventName)}."),
        ("event", "x" * 10**6, f"There is no such event; there are {', '.join(n.value for n in EventName)}."),
        *((key, value, f"{key} {AN_ID}") for key in ("user", "vault", "group", "id") for value in NO_IDS),
    ],
)
def test_an_event_with_a_value_that_cannot_be(key: str, value: object, message: str) -> None:
    bad = CREATE | {key: value}
    error = refusal(json.dumps(bad).encode())
    assert (error.status, error.identifier, error.context) == (422, "invalid-body", {"key": key})
    assert error.message == str(error) == message
    error = refusal(json.dumps({"events": [CREATE, CREATE, bad, bad]}).encode())
    assert (error.status, error.identifier) == (422, "invalid-body")
    assert error.context == {"index": 2, "key": key}
    assert error.message == f"events[2]: {message}"


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({}, "event", "event is missing; send one event, or a list of them as events."),
        ({"user": "u1"}, "event", "event is missing; send one event, or a list of them as events."),
        ({"event": "user-update"}, "user", "user is missing."),
        ({"event": "item-create", "user": "u1"}, "vault", "item-create needs the vault it is about."),
        ({"event": "vault-delete", "user": "u1"}, "vault", "vault-delete needs the vault it is about."),
        (UPDATE | {"vault": "v1"}, "vault", "user-update is a user event and names no vault."),
        ({"events": None}, "events", "events must be a list of events."),
        ({"events": CREATE}, "events", "events must be a list of events."),
        ({"events": [], "event": "user-update"}, "events", "Send either event or events, not both."),
        ({"event": None, "events": []}, "events", "Send either event or events, not both."),
        ([CREATE], None, "The body must be a JSON object."),
        ("item-create", None, "The body must be a JSON object."),
    ],
)
def test_a_body_that_cannot_be(content: object, key: str | None, message: str) -> None:
    error = refusal(json.dumps(content).encode())
    assert (error.status, error.identifier) == (422, "invalid-body")
    assert error.context == ({} if key is None else {"key": key})
    assert error.message == message


@pytest.mark.parametrize(
    ("bad", "key", "message"),
    [
        ({"user": "u1"}, "event", "event is missing."),
        ({"event": "user-update"}, "user", "user is missing."),
        ({"event": "item-create", "user": "u1"}, "vault", "item-create needs the vault it is about."),
        (UPDATE | {"vault": "v1"}, "vault", "user-update is a user event and names no vault."),
        (1, None, "It must be a JSON object."),
        (None, None, "It must be a JSON object."),
        ([UPDATE], None, "It must be a JSON object."),
    ],
)
def test_a_batch_is_all_or_nothing(bad: object, key: str | None, message: str) -> None:
    error = refusal(json.dumps({"events": [UPDATE, bad]}).encode())
    assert (error.status, error.identifier) == (422, "invalid-body")
    assert error.context == {"index": 1} | ({} if key is None else {"key": key})
    assert error.message == f"events[1]: {message}"


def test_data_of_the_greatest_size() -> None:
    limits = PublishLimits(max_event_bytes=10)
    assert decode(CREATE | {"data": "x" * 8}, limits)[0].data == b'"xxxxxxxx"'
    error = refusal(json.dumps(CREATE | {"data": "x" * 9}).encode(), limits)
    assert (error.status, error.identifier, error.context) == (413, "event-too-big", {"key": "data"})
    assert error.message == "data has 11 bytes of JSON, and may have 10."
    error = refusal(json.dumps({"events": [UPDATE, CREATE | {"data": "x" * 9}]}).encode(), limits)
    assert (error.status, error.context) == (413, {"index": 1, "key": "data"})
    assert error.message == "events[1]: data has 11 bytes of JSON, and may have 10."


def test_a_body_of_the_greatest_size() -> None:
    body = json.dumps(UPDATE).encode()
    assert len(decode_publish_body(body, PublishLimits(max_body_bytes=len(body)))) == 1
    error = refusal(body, PublishLimits(max_body_bytes=len(body) - 1))
    assert (error.status, error.identifier, error.context) == (413, "body-too-big", {})


@pytest.mark.parametrize("count", [1001, 10_000])
def test_a_batch_of_too_many(count: int) -> None:
    error = refusal(json.dumps({"events": [UPDATE] * count}).encode())
    assert (error.status, error.identifier, error.context) == (422, "invalid-body", {"key": "events"})
    assert error.message == f"A batch has at most 1000 events; this one has {count}."


def test_words_that_look_like_events() -> None:
    """Beside the events, and though there are very many: it is events that are counted."""
    words = [{"event": "x"}] * 20_000
    assert len(decode({"events": [UPDATE, UPDATE], "words": words})) == 2
    assert len(decode(UPDATE | {"words": words})) == 1


def test_a_batch_of_the_greatest_size() -> None:
    assert len(decode({"events": [UPDATE] * 1000})) == 1000
    error = refusal(json.dumps({"events": [UPDATE] * 1001}).encode())
    assert (error.status, error.identifier, error.context) == (422, "invalid-body", {"key": "events"})
    assert error.message == "A batch has at most 1000 events; this one has 1001."


tampered = st.builds(
    lambda body, at, length, garbage: body[: at % len(body)] + garbage + body[at % len(body) + length :],
    st.sampled_from([json.dumps(CREATE).encode(), json.dumps({"events": [UPDATE, CREATE]}).encode()]),
    st.integers(0, 1000),
    st.integers(0, 4),
    st.binary(max_size=4) | st.sampled_from([b"\\ud800", b"\\", b'"', b"[" * 3000, b"1e9", b"null", b"}"]),
)


def accepted_or_status(decode: Callable[[], T]) -> T | int:
    """What was decoded, or the status of its refusal; any other exception fails the test."""
    try:
        return decode()
    except PublishError as error:
        return error.status


@given(st.binary() | tampered | json_values.map(lambda content: json.dumps(content).encode()))
@example(b'{"events":[{"event":"item-create","user":"u1","vault":"v1","data":"\xed\xa0\x80"}]}')
def test_garbage_is_refused_or_is_events(body: bytes) -> None:
    events = accepted_or_status(lambda: decode_publish_body(body, LIMITS))
    if isinstance(events, int):
        assert events in {400, 422}
    else:
        # What is accepted can be passed on: its data is JSON, and it is text.
        content = json.loads(body.decode())
        published = content.get("events", [content])
        assert [json.loads(event.data.decode()) for event in events] == [one.get("data") for one in published]


@given(st.binary() | json_values.map(lambda content: json.dumps(content).encode()))
def test_garbage_is_no_disconnect(body: bytes) -> None:
    assert accepted_or_status(lambda: decode_disconnect_body(body, NOW, SECONDS)) in {400, 422}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"user": "u1"}', Disconnect(user="u1", at=NOW, until=NOW + SECONDS)),
        (b'{"group": "g1", "other": null}', Disconnect(group="g1", at=NOW, until=NOW + SECONDS)),
        (b'{"group": "g1", "user": "u1"}', Disconnect("u1", "g1", at=NOW, until=NOW + SECONDS)),
        (
            b'{"user": "u1", "x": [%s%s], "y": %s}' % (b"[" * 99, b"]" * 99, b"9" * 5000),
            Disconnect(user="u1", at=NOW, until=NOW + SECONDS),
        ),
        (b'{"group": "g1", "until": 1700000001}', Disconnect(group="g1", at=NOW, until=NOW + 1)),
        (b'{"user": "u1", "until": 1700000000.5}', Disconnect(user="u1", at=NOW, until=NOW + 0.5)),
        (b'{"user": "u1", "until": 1800000000}', Disconnect(user="u1", at=NOW, until=1.8e9)),
    ],
)
def test_disconnect(body: bytes, expected: Disconnect) -> None:
    assert decode_disconnect_body(body, NOW, SECONDS) == expected


@pytest.mark.parametrize(
    ("body", "key", "message"),
    [
        (b"{}", None, NOBODY),
        (b'{"until": 1800000000}', None, NOBODY),
        (b'{"user": "u1", "group": null}', "group", f"group {AN_ID}"),
        (b'{"user": "", "group": "g1"}', "user", f"user {AN_ID}"),
        (b'{"user": ""}', "user", f"user {AN_ID}"),
        (b'{"group": null}', "group", f"group {AN_ID}"),
        (b'{"group": 1}', "group", f"group {AN_ID}"),
        (b'{"user": "u1", "until": 1700000000}', "until", "until must be in the future, in Unix seconds."),
        (b'{"user": "u1", "until": -1}', "until", "until must be in the future, in Unix seconds."),
        *(
            (b'{"user": "u1", "until": %s}' % until, "until", MILLISECONDS)
            for until in (b"1700000000000", b"253402300800", b"1.7e12", b"1e308")
        ),
        *(
            (b'{"user": "u1", "until": %s}' % until, "until", "until must be a moment in Unix seconds.")
            for until in (b"true", b"false", b"null", b'"1800000000"', b"1e999", b"[1800000000]", b"9" * 400)
        ),
        (b'{"user": "u1", "until": %s}' % (b"9" * 5000), "until", "until must be a moment in Unix seconds."),
        (
            b'{"user": "u1", "issuedBefore": 1700000000000}',
            "issuedBefore",
            "issuedBefore must be in Unix seconds, not in milliseconds.",
        ),
        *(
            (
                b'{"user": "u1", "issuedBefore": %s}' % moment,
                "issuedBefore",
                "issuedBefore must be a moment in Unix seconds.",
            )
            for moment in (b"true", b"null", b'"1700000000"', b"1e999")
        ),
        (b'["u1"]', None, "The body must be a JSON object."),
        (b'{"user": "u1", "x": %s}' % (b"[" * 101), "x", "x is nested more than 100 deep."),
        (b'{"user": "u1", "x": "\\ud83c"}', "x", "x has half a surrogate pair in it, which is no character."),
    ],
)
def test_a_disconnect_that_cannot_be(body: bytes, key: str | None, message: str) -> None:
    with pytest.raises(PublishError) as raised:
        decode_disconnect_body(body, NOW, SECONDS)
    error = raised.value
    assert (error.status, error.identifier) == (422, "invalid-body")
    assert error.context == ({} if key is None else {"key": key})
    assert error.message == message


@given(st.floats(allow_nan=False, allow_infinity=False) | st.floats(NOW - 10, END_OF_TIME + 10))
def test_until_is_in_the_future_that_calendars_know(until: float) -> None:
    body = json.dumps({"user": "u1", "until": until}).encode()
    expected = Disconnect(user="u1", at=NOW, until=until) if NOW < until < END_OF_TIME else 422
    assert accepted_or_status(lambda: decode_disconnect_body(body, NOW, SECONDS)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"user=u1",
        b'{"user": "\xff"}',
        *(b'{"user": "u1", "until": %s}' % word for word in (b"NaN", b"Infinity")),
    ],
)
def test_a_disconnect_that_is_not_json(body: bytes) -> None:
    with pytest.raises(PublishError) as raised:
        decode_disconnect_body(body, NOW, SECONDS)
    assert (raised.value.status, raised.value.identifier) == (400, "not-json")


@pytest.mark.parametrize(
    ("moment", "at"), [(NOW - 5.5, NOW - 5.5), (NOW, NOW), (NOW + 60, NOW), (-1, -1), (1, 1)]
)
def test_issued_before_a_moment(moment: float, at: float) -> None:
    """Whoever asks again later says when it first wanted to; nobody says what will be."""
    body = json.dumps({"user": "u1", "issuedBefore": moment}).encode()
    assert decode_disconnect_body(body, NOW, 60.0) == Disconnect(user="u1", at=at, until=NOW + 60)
