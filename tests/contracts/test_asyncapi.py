"""spec/asyncapi.json against what generates it, the standard and the code."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from localful_ws.protocol import CloseCode, EventName
from localful_ws.settings import Settings
from tests.contracts.asyncapi import asyncapi_document
from tests.contracts.parts import ASYNCAPI, errors_in, written
from tests.spec_document import schema_names

DOCUMENT: dict[str, Any] = json.loads(ASYNCAPI.read_text(encoding="utf-8"))
STANDARD = Path(__file__).parent / "asyncapi-3.0.0.schema.json"
CHANNEL = DOCUMENT["channels"]["sync"]


def follow(reference: str) -> Any:
    found: Any = DOCUMENT
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [
            found
            for key, inner in value.items()
            for found in ([inner] if key == "$ref" else references(inner))
        ]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []


def test_the_file_is_what_is_generated() -> None:
    assert ASYNCAPI.read_text(encoding="utf-8") == written(asyncapi_document()), (
        "run python -m tests.contracts"
    )


def test_it_is_asyncapi() -> None:
    Draft7Validator(json.loads(STANDARD.read_text(encoding="utf-8"))).validate(DOCUMENT)


def test_what_is_not_asyncapi_is_noticed() -> None:
    standard = Draft7Validator(json.loads(STANDARD.read_text(encoding="utf-8")))
    operations = {
        **DOCUMENT["operations"],
        "other": {"action": "shout", "channel": {"$ref": "#/channels/sync"}},
    }
    assert not standard.is_valid(DOCUMENT | {"operations": operations})
    assert not standard.is_valid({key: value for key, value in DOCUMENT.items() if key != "info"})


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 50
    for reference in found:
        follow(reference)


def test_every_message_of_the_protocol_is_in_it_and_no_other() -> None:
    described = {follow(message["$ref"])["name"] for message in CHANNEL["messages"].values()}
    prefixes = ("device:", "server:", "event:")
    assert described == {name.split(":")[1] for name in schema_names() if name.startswith(prefixes)}
    assert {name.value for name in EventName} < described


def test_every_message_is_sent_or_received() -> None:
    used = {
        reference
        for operation in DOCUMENT["operations"].values()
        for message in [*operation["messages"], *operation.get("reply", {}).get("messages", ())]
        for reference in [message["$ref"]]
    }
    assert used == {f"#/channels/sync/messages/{name}" for name in CHANNEL["messages"]}


@pytest.mark.parametrize(
    "message", DOCUMENT["components"]["messages"].values(), ids=lambda message: message["name"]
)
def test_schemas_and_examples_of_messages(message: dict[str, Any]) -> None:
    # What AsyncAPI calls a schema is one of draft 7; these are of 2020-12, and read the same in either.
    described = follow(message["payload"]["$ref"])
    Draft7Validator.check_schema(described)
    assert message["examples"]
    for example in message["examples"]:
        Draft7Validator(described).validate(example["payload"])


def test_close_codes_are_those_of_the_code() -> None:
    written_codes = [(code["code"], code["reason"], code["reconnect"]) for code in CHANNEL["x-close-codes"]]
    assert written_codes == [(code.value, code.reason, code.reconnect.value) for code in CloseCode]
    assert all(code["when"] for code in CHANNEL["x-close-codes"])


def test_refusals_are_those_of_the_specification() -> None:
    refusals = {(refusal["status"], refusal["identifier"]) for refusal in CHANNEL["x-handshake-errors"]}
    assert refusals == set(errors_in("Refused handshakes"))


def test_address_is_that_of_the_settings() -> None:
    settings = Settings(publisher_key="k" * 16, jwt_secret=b"s" * 32)
    assert CHANNEL["address"] == settings.path
    assert DOCUMENT["servers"]["public"]["host"] == f"{settings.host}:{settings.port}"
