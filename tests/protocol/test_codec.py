"""Text to device messages, server messages to text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.protocol import (
    MAX_ID,
    Authenticate,
    Authenticated,
    CloseCode,
    DeviceMessage,
    Error,
    MessageError,
    Reauthenticate,
    ServerMessage,
    Subscribe,
    Subscribed,
    decode_device_message,
    encode_server_message,
)

LONGEST = "x" * 128
TOO_LONG = "x" * 129


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"event":"authenticate","token":"t"}', Authenticate("t")),
        ('{"event":"authenticate","token":""}', Authenticate("")),
        (json.dumps({"event": "authenticate", "token": TOO_LONG}), Authenticate(TOO_LONG)),
        ('{"event":"authenticate","token":"t","vaults":[]}', Authenticate("t", vaults=())),
        (
            '{"event":"authenticate","token":"t","vaults":["a"],"since":"7-0","id":"1"}',
            Authenticate("t", vaults=("a",), since="7-0", id="1"),
        ),
        ('{"event":"subscribe","vaults":["a","b"]}', Subscribe(("a", "b"))),
        ('{"event":"subscribe","vaults":["b","a","b","a"]}', Subscribe(("b", "a"))),
        ('{"event":"subscribe","vaults":[]}', Subscribe(())),
        ('{"event":"subscribe","vaults":[],"id":""}', Subscribe((), id="")),
        ('{"vaults":["a"],"id":"1"}', Subscribe(("a",), id="1")),
        ('{"vaults":["a"],"token":"t"}', Subscribe(("a",))),
        ('{"event":"authenticate","token":"t","since":"7"}', Authenticate("t", since="7")),
        (' \n{ "vaults" : [ "a" ] }\t', Subscribe(("a",))),
        ('{"vaults":["a"],"vaults":["b"]}', Subscribe(("b",))),
        ('{"vaults":["a"],"extra":{"event":null},"vault":5}', Subscribe(("a",))),
        ('{"vaults":["\\ud83d\\ude00"]}', Subscribe(("\U0001f600",))),
        ('{"vaults":["é\U0001f600\\u0000"]}', Subscribe(("é\U0001f600\0",))),
        (json.dumps({"vaults": [LONGEST], "id": LONGEST}), Subscribe((LONGEST,), id=LONGEST)),
        (json.dumps({"vaults": ["\U0001f600" * MAX_ID]}), Subscribe(("\U0001f600" * MAX_ID,))),
        ('{"vaults":[],"extra":"\\ud800"}', Subscribe(())),
        ('{"vaults":[],"extra":' + "[" * 100 + "]" * 100 + "}", Subscribe(())),
        ('{"vaults":[],"extra":' + "1" * 5000 + "}", Subscribe(())),
        ('{"vaults":[],"extra":[-1e999,0.%s]}' % ("1" * 5000), Subscribe(())),
    ],
)
def test_decodes(text: str, message: DeviceMessage) -> None:
    assert decode_device_message(text) == message


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("{'event': 'subscribe'}", "not JSON"),
        ('{"vaults":[]', "not JSON"),
        ('{"vaults":[]}{"vaults":[]}', "not JSON"),
        ('{"vaults":NaN}', "NaN is not a JSON number"),
        ('{"vaults":[],"x":-Infinity}', "-Infinity is not a JSON number"),
        ("\ufeff{}", "not JSON"),
        ('{"vaults":[],"extra":' + "[" * 101 + "]" * 101 + "}", "The message is nested more than 100 deep."),
        ("[" * 200_000, "The message is nested more than 100 deep."),
        ('{"x":' * 200_000, "The message is nested more than 100 deep."),
        ("[]", "must be a JSON object"),
        ("5", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('"vaults"', "must be a JSON object"),
        ("{}", "event must be authenticate or subscribe"),
        ('{"event":"unsubscribe"}', "event must be authenticate or subscribe"),
        ('{"event":"Authenticate","token":"t"}', "event must be"),
        ('{"event":"authenticated"}', "event must be"),
        ('{"event":null,"vaults":[]}', "event must be"),
        ('{"event":["subscribe"],"vaults":[]}', "event must be"),
        ('{"event":{},"vaults":[]}', "event must be"),
        ('{"event":1,"vaults":[]}', "event must be"),
        ('{"event":"authenticate"}', "authenticate needs the key token"),
        ('{"event":"subscribe"}', "subscribe needs the key vaults"),
        ('{"event":"authenticate","token":null}', "authenticate: token must be a string"),
        ('{"event":"authenticate","token":5}', "token must be a string"),
        ('{"event":"authenticate","token":["t"]}', "token must be a string"),
        ('{"event":"authenticate","token":"\\udc00"}', "token must be a string"),
        ('{"event":"authenticate","token":"t","vaults":null}', "vaults must be a list"),
        ('{"event":"authenticate","token":"t","since":""}', "since must be a cursor"),
        ('{"event":"authenticate","token":"t","since":7}', "since must be a cursor"),
        ('{"event":"authenticate","token":"t","since":null}', "since must be a cursor"),
        (json.dumps({"event": "authenticate", "token": "t", "since": TOO_LONG}), "since must be a cursor"),
        ('{"event":"authenticate","token":"t","id":null}', "id must be a string"),
        ('{"vaults":[],"id":1}', "subscribe: id must be a string"),
        (json.dumps({"vaults": [], "id": TOO_LONG}), "id must be a string"),
        ('{"vaults":[],"id":"\\ud800"}', "id must be a string"),
        ('{"vaults":"a"}', "vaults must be a list"),
        ('{"vaults":{"a":1}}', "vaults must be a list"),
        ('{"vaults":[""]}', "every vault id"),
        ('{"vaults":["a",5]}', "every vault id"),
        ('{"vaults":[null]}', "every vault id"),
        ('{"vaults":[["a"]]}', "every vault id"),
        ('{"vaults":["a\\ud83d"]}', "every vault id"),
        ('{"vaults":["a\\udfff"]}', "every vault id"),
        (json.dumps({"vaults": ["a", TOO_LONG]}), "every vault id"),
    ],
)
def test_refuses(text: str, complaint: str) -> None:
    with pytest.raises(MessageError) as refusal:
        decode_device_message(text)
    assert complaint in refusal.value.message
    assert str(refusal.value) == refusal.value.message
    assert refusal.value.message.endswith(".")
    assert refusal.value.code is CloseCode.BAD_MESSAGE


@pytest.mark.parametrize(
    ("text", "message_id"),
    [
        ('{"event":"subscribe","id":"1"}', "1"),
        ('{"event":"subscribe","vaults":5,"id":"1"}', "1"),
        ('{"event":"what","id":"1"}', "1"),
        ('{"event":"what","id":""}', ""),
        ('{"event":"what","id":1}', None),
        ('{"event":"what","id":"\\ud800"}', None),
        (json.dumps({"event": "what", "id": TOO_LONG}), None),
        ('{"event":"what"}', None),
        ('["id"]', None),
        ("hello", None),
    ],
)
def test_a_refusal_carries_a_usable_id(text: str, message_id: str | None) -> None:
    with pytest.raises(MessageError) as refusal:
        decode_device_message(text)
    assert refusal.value.id == message_id


@pytest.mark.parametrize(
    "text",
    [
        '{"event":"authenticate","token":"s3cr3t',
        '{"event":"authenticate","token":"s3cr3t"}}',
        '{"event":"authenticate","token":["s3cr3t"]}',
        '{"event":"authenticate","token":"s3cr3t","id":5}',
        '{"event":"s3cr3t"}',
        '{"token":"s3cr3t"}',
        "s3cr3t",
    ],
)
def test_a_refusal_never_repeats_a_token(text: str) -> None:
    with pytest.raises(MessageError) as refusal:
        decode_device_message(text)
    assert "s3cr3t" not in refusal.value.message + str(refusal.value) + repr(refusal.value)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            Authenticated("u", "g", 17, ("b", "a")),
            '{"event":"authenticated","user":"u","group":"g","expiresAt":17,"vaults":["b","a"]}',
        ),
        (
            Authenticated("u", "g", 17.5, (), id="1"),
            '{"event":"authenticated","user":"u","group":"g","expiresAt":17.5,"vaults":[],"id":"1"}',
        ),
        (Subscribed(()), '{"event":"subscribed","vaults":[]}'),
        (Subscribed(("a",), id=""), '{"event":"subscribed","vaults":["a"],"id":""}'),
        (Reauthenticate(17), '{"event":"reauthenticate","expiresAt":17}'),
        (Error("too-many", "Stop."), '{"event":"error","code":"too-many","message":"Stop."}'),
        (
            Error("x", 'é"\U0001f600', id="é"),
            '{"event":"error","code":"x","message":"é\\"\U0001f600","id":"é"}',
        ),
    ],
)
def test_encodes(message: ServerMessage, text: str) -> None:
    assert encode_server_message(message) == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
)


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.dictionaries(st.sampled_from(["event", "token", "vaults", "since", "id"]), json_values).map(
        json.dumps
    )
)
def test_anything_decodes_or_is_refused(text: str) -> None:
    try:
        message = decode_device_message(text)
    except MessageError as error:
        assert error.message.endswith(".")  # noqa: PT017 - either outcome is right; this is about one of them
    else:
        assert isinstance(message, Authenticate | Subscribe)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID)


@given(st.lists(ids), st.none() | ids)
def test_a_subscription_is_answered_as_it_was_asked(vaults: list[str], message_id: str | None) -> None:
    asked = {"vaults": vaults, **({} if message_id is None else {"id": message_id})}
    message = decode_device_message(json.dumps(asked))
    assert isinstance(message, Subscribe)
    answer = encode_server_message(Subscribed(message.vaults, message.id))
    assert json.loads(answer.encode()) == {
        **asked,
        "event": "subscribed",
        "vaults": list(dict.fromkeys(vaults)),
    }
