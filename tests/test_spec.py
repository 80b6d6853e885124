"""The schemas and examples of spec/ against the code."""

import json
import shlex
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from localful_ws.protocol import (
    Authenticate,
    Authenticated,
    Close,
    CloseCode,
    Connection,
    DeviceMessage,
    Error,
    Event,
    EventName,
    Limits,
    MessageError,
    Reauthenticate,
    Send,
    ServerMessage,
    Session,
    Subscribe,
    Subscribed,
    decode_device_message,
    encode_event,
    encode_server_message,
)
from localful_ws.publishing import (
    Disconnect,
    PublishError,
    PublishLimits,
    decode_disconnect_body,
    decode_publish_body,
    read_intake_entry,
)
from localful_ws.steps import finish
from tests.spec_document import Block, blocks, page, schema, schema_names, validator

BLOCKS = blocks(page("protocol.md"))
DEVICE_MESSAGES: tuple[type[DeviceMessage], ...] = (Authenticate, Subscribe)
SERVER_MESSAGES: tuple[type[ServerMessage], ...] = (Authenticated, Subscribed, Reauthenticate, Error)
EVENT_NAMES = {name.value: name for name in EventName}
WIRE_NAMES = {"expires_at": "expiresAt"}
# A server without history leaves it out, and our client takes that; this one never does.
ALWAYS_WRITTEN = {(Authenticated, "cursor")}
PUBLISHER_SCHEMAS = {
    "publish:request",
    "publish:answer",
    "disconnect:request",
    "disconnect:answer",
    "devices:answer",
    "intake:entry",
    "intake:rejected",
    "http:error",
}


def examples(prefix: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == "json" and block.label.startswith(prefix)]


def refused(label: str) -> list[tuple[str, Block]]:
    return [
        (line, block)
        for block in BLOCKS
        if block.language == "jsonl" and block.label == label
        for line in block.text.splitlines()
    ]


def by_name(block: object) -> str:
    # pytest escapes a backslash anew each time that it collects in one process, as mutmut has it do.
    return block.name if isinstance(block, Block) else str(block).replace("\\", "/")


def wire_keys(message: type[DeviceMessage | ServerMessage]) -> dict[str, bool]:
    """The keys of a message on the wire, and whether each is required."""
    keys = {
        WIRE_NAMES.get(field.name, field.name): (
            field.default is attrs.NOTHING or (message, field.name) in ALWAYS_WRITTEN
        )
        for field in attrs.fields(message)
    }
    return {"event": message is not Subscribe, **keys}


# --- schemas ---


@pytest.mark.parametrize("name", schema_names())
def test_schema_is_valid(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema(name)["description"].endswith(".")


def test_there_is_a_schema_for_everything_and_no_other() -> None:
    assert set(schema_names()) == (
        {f"device:{message.event}" for message in DEVICE_MESSAGES}
        | {f"server:{message.event}" for message in SERVER_MESSAGES}
        | {f"event:{name}" for name in EVENT_NAMES}
        | PUBLISHER_SCHEMAS
    )


@pytest.mark.parametrize("message", [*DEVICE_MESSAGES, *SERVER_MESSAGES])
def test_schema_has_the_keys_of_the_message(message: type[DeviceMessage | ServerMessage]) -> None:
    described = schema(("device:" if message in DEVICE_MESSAGES else "server:") + message.event)
    keys = wire_keys(message)
    assert set(described["properties"]) == set(keys)
    assert set(described["required"]) == {key for key, required in keys.items() if required}
    assert described["properties"]["event"] == {"const": message.event}


# Values of every JSON type, right and wrong ones mixed, for keys that exist and one that doesn't.
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(["", "v", "x" * 128, "x" * 129, "é\U0001f600", "authenticate", "subscribe"]),
    st.lists(st.sampled_from(["", "v", "w", "x" * 129, 5, None]), max_size=3),
    st.dictionaries(st.sampled_from(["vaults", "x"]), st.integers(), max_size=1),
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "event": st.one_of(st.sampled_from(["authenticate", "subscribe"]), values),
        "token": st.one_of(st.just("t"), values),
        "vaults": st.one_of(st.just(["v"]), values),
        "since": values,
        "id": values,
        "extra": values,
    },
)


@given(st.one_of(objects, values))
def test_device_schemas_say_what_the_core_decodes(value: Any) -> None:
    valid = any(validator(f"device:{message.event}").is_valid(value) for message in DEVICE_MESSAGES)
    try:
        decode_device_message(json.dumps(value))
    except MessageError:
        decodes = False
    else:
        decodes = True
    assert decodes == valid


published = st.fixed_dictionaries(
    {},
    optional={
        "event": st.one_of(st.sampled_from(sorted(EVENT_NAMES)), values),
        "user": st.one_of(st.just("u"), values),
        "vault": st.one_of(st.just("v"), values),
        "group": values,
        "data": values,
        "id": values,
        "extra": values,
    },
)
bodies = st.one_of(
    published,
    values,
    st.fixed_dictionaries({"events": st.one_of(values, st.lists(published, max_size=2))}),
    st.fixed_dictionaries({"events": st.lists(published, max_size=1), "event": values}),
)


@given(bodies)
def test_publish_schema_says_what_the_publish_port_takes(body: Any) -> None:
    try:
        decode_publish_body(json.dumps(body).encode(), PublishLimits())
    except PublishError:
        taken = False
    else:
        taken = True
    assert validator("publish:request").is_valid(body) == taken


# --- examples ---


def test_every_block_is_of_a_known_sort() -> None:
    known = {"json", "jsonl", "sequence", "http", "mermaid", "redis"}
    assert {block.language for block in BLOCKS} == known
    assert {block.label for block in BLOCKS if block.language == "json"} == set(schema_names())
    assert {block.label for block in BLOCKS if block.language == "jsonl"} == {
        "device:refused",
        "publish:refused",
        "disconnect:refused",
    }


@pytest.mark.parametrize("block", examples(""), ids=by_name)
def test_example_is_valid_against_its_schema(block: Block) -> None:
    validator(block.label).validate(json.loads(block.text))


@pytest.mark.parametrize("block", examples("device:"), ids=by_name)
def test_device_example_decodes_to_what_it_says(block: Block) -> None:
    example = json.loads(block.text)
    message = decode_device_message(block.text)
    said = {key: value for key, value in attrs.asdict(message).items() if value is not None}
    assert block.label == f"device:{message.event}"
    assert {**said, "vaults": list(said.get("vaults", ()))} == {
        "vaults": [],
        **{key: value for key, value in example.items() if key != "event"},
    }


@pytest.mark.parametrize("block", examples("server:"), ids=by_name)
def test_server_example_is_what_the_core_writes(block: Block) -> None:
    example = json.loads(block.text)
    [message_type] = [message for message in SERVER_MESSAGES if block.label == f"server:{message.event}"]
    fields = {name: example.get(WIRE_NAMES.get(name, name)) for name in attrs.fields_dict(message_type)}
    written = json.loads(encode_server_message(message_type(**fields)))
    assert written == example
    assert list(written) == list(example)


@pytest.mark.parametrize("block", examples("event:"), ids=by_name)
def test_event_example_is_what_the_core_writes(block: Block) -> None:
    example = json.loads(block.text)
    name = EVENT_NAMES[block.label.removeprefix("event:")]
    event = Event(name, "u", example.get("vault"), "g", json.dumps(example["data"]).encode(), "id")
    text = encode_event(event, example["cursor"])
    assert json.loads(text) == example
    assert list(json.loads(text)) == list(example)


@pytest.mark.parametrize("block", examples("publish:request"), ids=by_name)
def test_publish_example_is_taken(block: Block) -> None:
    body = json.loads(block.text)
    events = decode_publish_body(block.text.encode(), PublishLimits())
    published = body.get("events", [body])
    assert [(event.name.value, event.user, event.id) for event in events] == [
        (one["event"], one["user"], one.get("id")) for one in published
    ]


@pytest.mark.parametrize("block", examples("disconnect:request"), ids=by_name)
def test_disconnect_example_is_taken(block: Block) -> None:
    body = json.loads(block.text)
    disconnect = decode_disconnect_body(block.text.encode(), now=5.0, seconds=60.0)
    assert disconnect == Disconnect(
        body.get("user"), body.get("group"), at=5.0, until=body.get("until", 65.0)
    )


def as_published(entry: dict[str, str]) -> Any:
    """The body that an entry of the intake stands for."""
    for key in ("body", "disconnect"):
        if key in entry:
            return json.loads(entry[key])
    return {key: json.loads(value) if key == "data" else value for key, value in entry.items()}


def validate_as_published(entry: dict[str, str]) -> None:
    """See that what an entry of the intake stands for could be sent by HTTP."""
    label = "disconnect:request" if "disconnect" in entry else "publish:request"
    validator(label).validate(as_published(entry))


@pytest.mark.parametrize("block", examples("intake:entry"), ids=by_name)
def test_intake_example_can_be_published(block: Block) -> None:
    entry = json.loads(block.text)
    validate_as_published(entry)
    fields = {key.encode(): value.encode() for key, value in entry.items()}
    assert finish(read_intake_entry(fields, "1-0", PublishLimits(), now=1.0, seconds=60.0))


def test_rejected_intake_example_cannot_be_published() -> None:
    [block] = examples("intake:rejected")
    rejected = json.loads(block.text)
    entry = {key: value for key, value in rejected.items() if key not in ("reason", "entry")}
    with pytest.raises(PublishError) as refusal:
        decode_publish_body(json.dumps(as_published(entry)).encode(), PublishLimits())
    assert refusal.value.message == rejected["reason"]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "redis"], ids=by_name)
def test_redis_command_appends_an_entry(block: Block) -> None:
    command, stream, entry_id, *words = shlex.split(block.text)
    assert (command, stream, entry_id) == ("XADD", "localful:intake", "*")
    entry = dict(zip(words[::2], words[1::2], strict=True))
    validator("intake:entry").validate(entry)
    validate_as_published(entry)


@pytest.mark.parametrize(("text", "block"), refused("device:refused"), ids=by_name)
@pytest.mark.parametrize("state", ["awaiting-auth", "authenticated"])
def test_refused_device_example_gets_its_close_code(text: str, block: Block, state: str) -> None:
    connection = Connection(Limits(), now=0.0)
    if state == "authenticated":
        connection.accept_session(Session("u", "g", 3600.0), now=0.0, cursor="c")
    actions = connection.receive_text(text, now=1.0)
    [code] = [code for code in CloseCode if str(code.value) == block.options["close"]]
    if block.options["state"] not in ("any", state):
        assert Close(code) not in actions
        return
    [error, close] = actions
    assert close == Close(code)
    assert isinstance(error, Send)
    assert isinstance(error.message, Error)
    assert error.message.code == code.reason
    validator("server:error").validate(json.loads(encode_server_message(error.message)))


@pytest.mark.parametrize(("text", "block"), refused("publish:refused"), ids=by_name)
def test_refused_publish_example_gets_its_status(text: str, block: Block) -> None:
    with pytest.raises(PublishError) as refusal:
        decode_publish_body(text.encode(), PublishLimits())
    assert refusal.value.status == int(block.options["status"])
    assert not validator("publish:request").is_valid(json.loads(text))


@pytest.mark.parametrize(("text", "block"), refused("disconnect:refused"), ids=by_name)
def test_refused_disconnect_example_gets_its_status(text: str, block: Block) -> None:
    with pytest.raises(PublishError) as refusal:
        decode_disconnect_body(text.encode(), now=0.0, seconds=60.0)
    assert refusal.value.status == int(block.options["status"])
    assert not validator("disconnect:request").is_valid(json.loads(text))
