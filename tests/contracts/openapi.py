"""Puts together spec/openapi.json: the internal port, for programs that read OpenAPI 3.1."""

from http import HTTPStatus

from attrs import fields

from localful_ws.metrics import CONTENT_TYPE
from localful_ws.settings import Settings
from tests.contracts import console
from tests.contracts.operation import AN_ID, Operation, number_parameter, query_parameter
from tests.contracts.parts import LICENSE, Json, component_name, component_schemas, errors_in, examples

JSON = "application/json"
# What can be wrong with any request that carries the publisher key.
_KEYED = ("unauthorized", "draining", "engine-unavailable")
_WITH_BODY = ("not-json", "body-timeout", "body-too-big", "invalid-body", *_KEYED, "busy")
# In the words of spec/protocol.md, where it has a table of them.
ERRORS = (
    errors_in("Publish")
    | errors_in("Disconnect")
    | errors_in("Devices of a user")
    | errors_in("Health and metrics")
    | errors_in("HTTP errors")
    | console.ERRORS
)
STATUSES = {identifier: status for status, identifier in ERRORS}
# An answer to any request of an operation.
INTERNAL = "internal-error"
# To requests that are of none: which can't be understood, or are not for here.
OF_NO_OPERATION = {
    "bad-request": "that can't be understood",
    "not-found": "for a path that is not here",
    "method-not-allowed": "with a method that is not here",
    "host-not-allowed": "by a name that is not allowed",
    "head-too-big": "with too big a head",
    "not-implemented": "with a transfer coding that is not here",
    "version-not-supported": "of another version of HTTP",
}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
    405: {"Allow": {"required": True, "schema": {"type": "string"}}},
    503: {
        "Retry-After": {
            "description": "Seconds after which to try again.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    },
}


def _status(word: str) -> Json:
    return {
        JSON: {
            "schema": {"type": "object", "properties": {"status": {"const": word}}, "required": ["status"]}
        }
    }


OPERATIONS = (
    Operation(
        "post",
        "/v1/events",
        "publish",
        "Publish an event, or a batch of them",
        202,
        "publish:answer",
        "publish:request",
        (*_WITH_BODY, "event-too-big", "too-many-revocations"),
        keyed=True,
        description="An object with `events` is a batch. It is all or nothing: `context.index` of an error "
        "says which event it is about. An event with an `id` is accepted once. The body's `Content-Type` "
        "is not looked at.",
    ),
    Operation(
        "post",
        "/v1/disconnect",
        "disconnect",
        "End one login, or all of a user's, and refuse the tokens that were issued so far",
        202,
        "disconnect:answer",
        "disconnect:request",
        (*_WITH_BODY, "too-many-revocations"),
        keyed=True,
        description="After a password change, a stolen device, a log-out. `user` and `group` name one login, "
        "`user` alone all of the user's, `group` alone every user's group of this id. `until` must be in the "
        "future. "
        "The body's `Content-Type` is not looked at.",
    ),
    Operation(
        "get",
        "/v1/users/{user}/devices",
        "devicesOfUser",
        "Which devices a user has now, on all nodes",
        200,
        "devices:answer",
        errors=("unauthorized", "invalid-query", "engine-unavailable"),
        keyed=True,
        description="In the order in which they connected, a page at a time.",
        parameters=(
            query_parameter("user", AN_ID, "The user.", required=True) | {"in": "path"},
            number_parameter("after", "The `next` of an answer.", 0, 999_999_999, 0),
            number_parameter("limit", "At most so many.", 1, 1000, 100),
            number_parameter("vaults", "At most so many vaults of each subscription are named.", 0, 1000, 20),
        ),
    ),
    Operation("get", "/healthz", "healthz", "Whether the process works", 200, _status("alive")),
    Operation(
        "get",
        "/readyz",
        "readyz",
        "Whether devices and publishers are served",
        200,
        _status("ready"),
        errors=("not-ready",),
    ),
    Operation(
        "get",
        "/metrics",
        "metrics",
        "Metrics for Prometheus",
        200,
        {CONTENT_TYPE: {"schema": {"type": "string"}}},
        errors=("metrics-unavailable",),
    ),
    *console.OPERATIONS,
)


def openapi_document() -> Json:
    """The document."""
    labels = {"http:error"}
    for operation in OPERATIONS:
        labels |= {label for label in (operation.request, operation.answer) if isinstance(label, str)}
    paths: Json = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    defaults = fields(Settings)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Localful WebSocket server: the internal port",
            "summary": "What the HTTP API and the operator ask of the server.",
            "description": "protocol.md beside this file says more. Limits are the defaults of settings. "
            "Unknown extra keys are ignored. Requests that are of no operation are answered like one of "
            "`components.responses`: "
            + "; ".join(f"{what} like `{component_name(word)}`" for word, what in OF_NO_OPERATION.items())
            + ".",
            "license": LICENSE,
            "version": "1",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [
            {
                "url": "http://{host}:{port}",
                "description": "The settings `internal-host` and `internal-port`.",
                "variables": {
                    "host": {"default": defaults.internal_host.default},
                    "port": {"default": str(defaults.internal_port.default)},
                },
            }
        ],
        "paths": paths,
        "components": {
            "schemas": component_schemas(*labels) | console.SCHEMAS,
            "responses": {
                component_name(word): _error_response(STATUSES[word], [word]) for word in OF_NO_OPERATION
            },
            "securitySchemes": {
                "publisherKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The setting `publisher-key`.",
                }
            },
        },
    }


def _operation(operation: Operation) -> Json:
    by_status: dict[int, list[str]] = {}
    for identifier in (*operation.errors, INTERNAL):
        by_status.setdefault(STATUSES[identifier], []).append(identifier)
    answer = operation.answer
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{"publisherKey": []}] if operation.keyed else [],
        "responses": {
            str(operation.status): {
                "description": HTTPStatus(operation.status).phrase,
                "content": _content(answer) if isinstance(answer, str) else answer,
            },
            **{str(status): _error_response(status, words) for status, words in sorted(by_status.items())},
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.request:
        described["requestBody"] = {"required": True, "content": _content(operation.request)}
    return described


def _content(label: str) -> Json:
    named = {f"example {number}": {"value": value} for number, value in enumerate(examples(label), 1)}
    return {JSON: {"schema": _reference(label), "examples": named}}


def _error_response(status: int, identifiers: list[str]) -> Json:
    properties = {"statusCode": {"const": status}, "identifier": {"enum": identifiers}}
    response: Json = {
        "description": "; ".join(f"`{word}`: {ERRORS[status, word]}" for word in identifiers) + ".",
        "content": {JSON: {"schema": {"allOf": [_reference("http:error"), {"properties": properties}]}}},
    }
    if status in _HEADERS:
        response["headers"] = _HEADERS[status]
    return response


def _reference(label: str) -> Json:
    return {"$ref": f"#/components/schemas/{component_name(label)}"}
