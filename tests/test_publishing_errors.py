"""What a publisher is told of a body that is nested too deeply, or has values that nobody expects."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.publishing import (
    PublishError,
    PublishLimits,
    decode_disconnect_body,
    decode_publish_body,
)

LIMITS = PublishLimits()
AN_ID = "must be a string of 1 to 128 characters."


def refusal(body: bytes) -> PublishError:
    with pytest.raises(PublishError) as raised:
        decode_publish_body(body, LIMITS)
    return raised.value


def nested(depth: int) -> str:
    """Arrays, in them objects."""
    arrays, objects = depth // 2, depth - depth // 2
    return "[" * arrays + '{"a":' * objects + "1" + "}" * objects + "]" * arrays


ONE = '{"event":"user-update","user":"u1","%s":%s}'


@pytest.mark.parametrize("key", ["data", "other", "later"])
@pytest.mark.parametrize("excess", [1, 2, 3, 5000])
def test_a_value_is_nested_a_hundred_deep_at_most(key: str, excess: int) -> None:
    deepest, too_deep = ONE % (key, nested(100)), ONE % (key, nested(100 + excess))
    assert len(decode_publish_body(deepest.encode(), LIMITS)) == 1
    assert len(decode_publish_body(f'{{"events":[{deepest},{deepest}]}}'.encode(), LIMITS)) == 2
    error = refusal(too_deep.encode())
    assert (error.status, error.identifier, error.context) == (422, "invalid-body", {"key": key})
    assert error.message == f"{key} is nested more than 100 deep."
    error = refusal(f'{{"events":[{deepest},{too_deep},{too_deep}]}}'.encode())
    assert (error.status, error.identifier) == (422, "invalid-body")
    assert error.context == {"index": 1, "key": key}
    assert error.message == f"events[1]: {key} is nested more than 100 deep."


@pytest.mark.parametrize(
    ("body", "context", "message"),
    [
        ("[" * 5000, {}, "The body is nested more than 100 deep."),
        ('{"events":' + "[" * 5000, {"index": 0}, "events[0]: It is nested more than 100 deep."),
        ('{"events":[1,' + "[" * 5000, {"index": 1}, "events[1]: It is nested more than 100 deep."),
        ('{"events":{"x":' + "[" * 5000, {"key": "events"}, "events is nested more than 100 deep."),
        ('{"events":[],"x":' + "[" * 5000, {"key": "x"}, "x is nested more than 100 deep."),
        ('{"%s":' % ("x" * 129) + "[" * 5000, {}, "A value is nested more than 100 deep."),
        ("\xff" + "[" * 5000, {}, "The body is nested more than 100 deep."),
    ],
)
def test_what_is_too_deep_is_told_before_anything_else(
    body: str, context: dict[str, int | str], message: str
) -> None:
    error = refusal(body.encode("latin-1"))
    assert (error.status, error.identifier, error.context) == (422, "invalid-body", context)
    assert error.message == message


def test_brackets_in_text_are_not_nested() -> None:
    data = json.dumps(["[{" * 1000, '\\"[[' * 500, "\\"])
    assert decode_publish_body((ONE % ("data", data)).encode(), LIMITS)[0].data == data.encode()


HALF = r"has half a surrogate pair in it, which is no character."


@pytest.mark.parametrize(
    ("pair", "key", "message"),
    [
        (r'"data":"Party \ud83c"', "data", f"data {HALF}"),
        (r'"data":"\udf89 Party"', "data", f"data {HALF}"),
        (r'"data":{"a":["\ud83d\ud83d"]}', "data", f"data {HALF}"),
        (r'"data":{"\ud83d":1}', "data", f"data {HALF}"),
        (r'"other":"\ud83d"', "other", f"other {HALF}"),
        (r'"\ud83d":1', None, f"A value {HALF}"),
        (r'"group":"\ud83d"', "group", f"group {AN_ID}"),
        (r'"event":"\ud83d"', "event", f"event {HALF}"),
    ],
)
def test_half_a_surrogate_pair(pair: str, key: str | None, message: str) -> None:
    named = {} if key is None else {"key": key}
    for event in (
        f'{{"event":"user-update","user":"u1",{pair}}}',
        f'{{{pair},"event":"user-update","user":"u1"}}',
    ):
        error = refusal(event.encode())
        assert (error.status, error.identifier, error.context) == (422, "invalid-body", named)
        assert error.message == message
        error = refusal(f'{{"events":[{{"event":"user-update","user":"u1"}},{event}]}}'.encode())
        assert (error.status, error.identifier, error.context) == (422, "invalid-body", {"index": 1, **named})
        assert error.message == f"events[1]: {message}"
    error = refusal(rb'{"events":[],"other":"\ud83d"}')
    assert (error.status, error.context, error.message) == (422, {"key": "other"}, f"other {HALF}")


def test_of_a_key_that_is_there_twice_either_may_be_wrong() -> None:
    for body in (
        '{"event":"user-update","user":5,"user":"u1"}',
        '{"event":"user-update","user":"u1","user":5}',
    ):
        error = refusal(body.encode())
        assert (error.status, error.context, error.message) == (422, {"key": "user"}, f"user {AN_ID}")


UNWRITABLE = {math.inf: "1e999", -math.inf: "9" * 5000}
"""Numbers that Python would not write, and how they are written here."""

odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(), max_size=3)
    | st.sampled_from(["u1", "user-update", "\ud83c", "x" * 129, *UNWRITABLE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=2), inner),
    max_leaves=5,
)
odd_pairs = st.tuples(
    st.sampled_from(["event", "events", "user", "id", "data", "until", "x", "\udc00"]), odd_values
)


def written(value: object) -> str:
    if isinstance(value, dict):
        return written_pairs(list(value.items()))
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return UNWRITABLE[value] if isinstance(value, float) else json.dumps(value)


def written_pairs(pairs: list[tuple[str, object]]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{written(value)}" for key, value in pairs) + "}"


@given(st.lists(st.lists(odd_pairs, max_size=5).map(written_pairs), min_size=1, max_size=3), st.booleans())
def test_every_refusal_says_what_is_wrong(objects: list[str], in_batch: bool) -> None:  # noqa: FBT001
    body = ('{"events":[' + ",".join(objects) + "]}" if in_batch else objects[0]).encode()
    for decode in (
        lambda: decode_publish_body(body, LIMITS),
        lambda: decode_disconnect_body(body, now=0.0, seconds=60.0),
    ):
        refused: list[PublishError] = []
        try:
            decode()
        except PublishError as error:
            refused.append(error)
        assert [error.status for error in refused] in ([], [422])
        assert not [error.message for error in refused if error.message.endswith("can't be read.")]


UPDATE: dict[str, object] = {"event": "user-update", "user": "u1"}


@pytest.mark.parametrize(
    ("event", "message", "context"),
    [
        ({"user": "u1"}, "events[2]: Object missing required field `event`.", {"index": 2}),
        (UPDATE | {"user": 5}, "events[2]: user: Expected `str`, got `int`.", {"index": 2, "key": "user"}),
        (5, "events[2]: Expected `object`, got `int`.", {"index": 2}),
    ],
)
def test_a_long_body_is_not_read_twice(event: object, message: str, context: dict[str, object]) -> None:
    """What is wrong with it is said in msgspec's words."""
    long = UPDATE | {"more": "x" * 300_000}
    error = refusal(json.dumps({"events": [UPDATE, long, event]}).encode())
    assert (error.status, error.message, error.context) == (422, message, context)


@pytest.mark.parametrize(
    ("body", "status", "context"),
    [
        (b'{"events":[{"event":"%b"]}', 400, {}),
        (b'["%b"]', 422, {}),
        (b'{"more":"%b","events":5}', 422, {"key": "events"}),
    ],
)
def test_a_long_body_without_events(body: bytes, status: int, context: dict[str, object]) -> None:
    error = refusal(body % (b"1" * 300_000))
    assert (error.status, error.context) == (status, context)
