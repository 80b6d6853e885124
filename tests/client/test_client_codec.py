"""What a client makes of the server's text."""

import json
import math

import pytest

from localful_ws.client import ReceivedEvent, ServerMessageError
from localful_ws.client.codec import (
    ReceivedMessage,
    decode_server_message,
    encode_authenticate,
    encode_subscribe,
)
from localful_ws.protocol import (
    Authenticate,
    Authenticated,
    Error,
    Event,
    EventKind,
    EventName,
    Reauthenticate,
    ServerMessage,
    Subscribe,
    Subscribed,
    decode_device_message,
    encode_event,
    encode_server_message,
)


@pytest.mark.parametrize(
    "message",
    [
        Authenticated("ada", "phone", 1000.5, ("v1", "ü")),
        Authenticated("ada", "phone", 1000, (), id="7"),
        Authenticated("ada", "phone", 1000, (), "c7"),
        Authenticated("ada", "phone", 1000, (), "c" * 128, resumed=True),
        Authenticated("ada", "phone", 1000, (), "c", resumed=False, id="7"),
        Subscribed(("v1",)),
        Subscribed((), ""),
        Reauthenticate(1000),
        Error("too-many-vaults", "A sentence."),
        Error("too-many-vaults", "A sentence.", "7"),
    ],
)
def test_what_the_server_writes_is_read(message: ServerMessage) -> None:
    assert decode_server_message(encode_server_message(message)) == message


@pytest.mark.parametrize("name", EventName)
def test_every_event_is_read(name: EventName) -> None:
    vault = None if name.kind is EventKind.USER else "v1"
    event = Event(name, "ada", vault, "phone", b'{"a":[1,null]}')
    assert decode_server_message(encode_event(event, "e1.7-0").decode()) == ReceivedEvent(
        name.value, vault, {"a": [1, None]}, "e1.7-0"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"event":"item-create","vault":"v","data":null,"cursor":"7","more":{}}',
            ReceivedEvent("item-create", "v", None, "7"),
        ),
        ('{"event":"item-rename","data":5}', ReceivedEvent("item-rename", None, 5)),
        ('{"event":"fanfare"}', None),
        ('{"event":"subscribed","vaults":["v"],"more":1}', Subscribed(("v",))),
    ],
)
def test_what_is_new_to_this_client_does_no_harm(text: str, message: ReceivedMessage | None) -> None:
    assert decode_server_message(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "5",
        "{}",
        '{"event":5}',
        '{"vaults":[]}',
        "[" * 100_000,
        '{"event":"authenticated","group":"g","expiresAt":1,"vaults":[]}',
        '{"event":"authenticated","user":5,"group":"g","expiresAt":1,"vaults":[]}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":"1","vaults":[]}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":true,"vaults":[]}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":"v"}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[1]}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[],"id":null}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[],"cursor":7}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[],"cursor":""}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[],"resumed":1}',
        '{"event":"authenticated","user":"u","group":"g","expiresAt":1,"vaults":[],"resumed":null}',
        '{"event":"subscribed"}',
        '{"event":"reauthenticate"}',
        '{"event":"error","code":"x"}',
        '{"event":"item-create","vault":5,"data":1}',
        '{"event":"item-create","cursor":5,"data":1}',
        '{"event":"item-create","cursor":null,"data":1}',
        '{"event":"item-create","cursor":"","data":1}',
        '{"event":"item-create","cursor":"%s","data":1}' % ("c" * 129),
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ServerMessageError, match=r"^The server sent .*\.$"):
        decode_server_message(text)


def test_the_server_reads_what_the_client_writes() -> None:
    assert decode_device_message(encode_authenticate("t", ["v1", "ü"], "1")) == Authenticate(
        "t", ("v1", "ü"), None, "1"
    )
    assert decode_device_message(encode_authenticate("t", None, "1")) == Authenticate("t", None, None, "1")
    assert decode_device_message(encode_authenticate("t", (), "1", "c7")) == Authenticate("t", (), "c7", "1")
    assert decode_device_message(encode_subscribe(["v1"], "2")) == Subscribe(("v1",), "2")


def test_the_data_of_an_event_stays_out_of_its_representation() -> None:
    event = decode_server_message(json.dumps({"event": "item-create", "data": "private"}))
    assert "private" not in repr(event)


def test_a_number_of_thousands_of_digits_is_infinite() -> None:
    event = Event(EventName.USER_UPDATE, "ada", data=b"[-" + b"9" * 5000 + b",7]")
    received = decode_server_message(encode_event(event, "c").decode())
    assert received == ReceivedEvent("user-update", None, [-math.inf, 7], "c")


def test_what_the_server_passes_on_is_not_too_deep() -> None:
    deepest = "[" * 100 + "]" * 100
    event = Event(EventName.ITEM_CREATE, "ada", "v", data=deepest.encode())
    received = decode_server_message(encode_event(event, "c").decode())
    assert received == ReceivedEvent("item-create", "v", json.loads(deepest), "c")
    with pytest.raises(ServerMessageError, match=r"^The server sent a message that is nested more than 100 "):
        decode_server_message(f'{{"event":"item-create","vault":"v","data":[{deepest}]}}')
