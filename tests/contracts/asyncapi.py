"""Puts together spec/asyncapi.json: the WebSocket, for programs that read AsyncAPI 3."""

from attrs import fields

from localful_ws.protocol import BEARER_SUBPROTOCOL, SUBPROTOCOL, CloseCode, EventKind, EventName
from localful_ws.settings import Settings
from tests.contracts.parts import (
    LICENSE,
    PROTOCOL,
    Json,
    component_name,
    component_schemas,
    errors_in,
    examples,
    unlinked,
)
from tests.spec_document import schema, table

FROM_DEVICE = ("device:authenticate", "device:subscribe")
FROM_SERVER = ("server:authenticated", "server:subscribed", "server:reauthenticate", "server:error")
EVENTS = tuple(f"event:{name.value}" for name in EventName)
# Both can be asked for with an id, which comes back.
_ANSWERED = {"device:authenticate": "server:authenticated", "device:subscribe": "server:subscribed"}
_CHANNEL = {"$ref": "#/channels/sync"}


def asyncapi_document() -> Json:
    """The document."""
    labels = (*FROM_DEVICE, *FROM_SERVER, *EVENTS)
    defaults = fields(Settings)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Localful WebSocket server: the WebSocket",
            "version": "1",
            "description": "What the devices of a user are told of each other's changes. protocol.md "
            "beside this file says more: who gets which event, resuming, and a sequence for each "
            "situation. Limits are the defaults of settings. Unknown extra keys are ignored on both sides, "
            "and messages with an unknown `event` by the device.",
            "license": {"name": LICENSE["name"]},
        },
        "defaultContentType": "application/json",
        "servers": {
            "public": {
                "host": f"{defaults.host.default}:{defaults.port.default}",
                "protocol": "ws",
                "protocolVersion": "13",
                "description": "The settings `host` and `port`; `wss` with `tls-cert`, or behind a proxy "
                "that ends TLS. The token may instead come in the first message, `authenticate`.",
                "security": [
                    {"$ref": "#/components/securitySchemes/header"},
                    {"$ref": "#/components/securitySchemes/subprotocol"},
                ],
            }
        },
        "channels": {"sync": _channel(labels, str(defaults.path.default))},
        "operations": _operations(),
        "components": {
            "schemas": component_schemas(*labels),
            "messages": {component_name(label): _message(label) for label in labels},
            "securitySchemes": {
                "header": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The access token at the handshake, for clients that can set headers.",
                },
                "subprotocol": {
                    "type": "httpApiKey",
                    "in": "header",
                    "name": "Sec-WebSocket-Protocol",
                    "description": "The access token at the handshake, for browsers: offer "
                    f"`{BEARER_SUBPROTOCOL}<token>` beside `{SUBPROTOCOL}`.",
                },
            },
        },
    }


def _channel(labels: tuple[str, ...], address: str) -> Json:
    when = {row[0]: unlinked(row[2]) for row in table(PROTOCOL, "Close codes")}
    return {
        "address": address,
        "title": "Changes of a user's content",
        "description": f"One connection of one device. The subprotocol `{SUBPROTOCOL}` is selected if it "
        "is offered. Messages are text, one JSON object each.",
        "servers": [{"$ref": "#/servers/public"}],
        "messages": {
            component_name(label): {"$ref": f"#/components/messages/{component_name(label)}"}
            for label in labels
        },
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
        "x-close-codes": [
            {
                "code": code.value,
                "reason": code.reason,
                "when": when[str(code.value)],
                "reconnect": code.reconnect.value,
            }
            for code in CloseCode
        ],
        "x-handshake-errors": [
            {"status": status, "identifier": identifier, "when": text}
            for (status, identifier), text in errors_in("Refused handshakes").items()
        ],
    }


def _operations() -> Json:
    operations: Json = {}
    for label, answer in _ANSWERED.items():
        operations[component_name(label)] = {
            "action": "receive",
            "channel": _CHANNEL,
            "summary": schema(label)["description"],
            "messages": [_message_of_channel(label)],
            "reply": {
                "channel": _CHANNEL,
                "messages": [_message_of_channel(answer), _message_of_channel("server:error")],
            },
        }
    for label in ("server:reauthenticate", "server:error"):
        operations[component_name(label)] = {
            "action": "send",
            "channel": _CHANNEL,
            "summary": schema(label)["description"],
            "messages": [_message_of_channel(label)],
        }
    for kind in EventKind:
        operations[f"{kind.value}Events"] = {
            "action": "send",
            "channel": _CHANNEL,
            "summary": f"The {kind.value} events.",
            "messages": [
                _message_of_channel(f"event:{name.value}") for name in EventName if name.kind is kind
            ],
        }
    return operations


def _message(label: str) -> Json:
    described = schema(label)
    message: Json = {
        "name": described["title"],
        "title": described["title"],
        "summary": described["description"],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{component_name(label)}"},
    }
    if "id" in described["properties"]:
        message["correlationId"] = {"location": "$message.payload#/id"}
    if named := examples(label):
        message["examples"] = [{"payload": payload} for payload in named]
    return message


def _message_of_channel(label: str) -> Json:
    return {"$ref": f"#/channels/sync/messages/{component_name(label)}"}
