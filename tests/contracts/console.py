"""The operations of the operator's console, for spec/openapi.json."""

from inspect import cleandoc
from typing import Any

import msgspec

from localful_ws.server.console.routes import ALIVE_SECONDS
from localful_ws.server.survey.questions import MOST_USERS, DeviceView, UserCount
from localful_ws.server.watching import MOST_DATA_BYTES
from tests.contracts.operation import AN_ID, Operation, query_parameter
from tests.contracts.parts import Json

_JSON = "application/json"
_UNSTABLE = "For the page at `/console`; it may change with every version. "
_ERRORS = ("unauthorized", "not-found", "answer-unavailable")
ERRORS = {
    (422, "invalid-query"): "a parameter is missing, too long or out of its range; `context.key` says which",
    (503, "answer-unavailable"): "the answer of all workers can't be had just now",
    (503, "too-many-watchers"): "as many are watching as may at the same time",
}
"""What is not in the tables of spec/protocol.md: status and identifier, and when."""

_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_COUNTS = {"type": "object", "additionalProperties": _COUNT}


def _object(optional: Json | None = None, /, **properties: Any) -> Json:
    """An object with these keys, and perhaps the optional ones."""
    return {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
    }


def _array(of: Json) -> Json:
    return {"type": "array", "items": of}


_USER = query_parameter("user", AN_ID, "The user.", required=True)
_SOME_TEXT = {"type": "string", "maxLength": 128}
_OVERVIEW = _object(
    time=_NUMBER,
    startedAt=_NUMBER,
    version={"type": "string"},
    unavailable={"type": ["string", "null"], "description": "Why nobody is served now; null if they are."},
    draining={"type": "boolean"},
    workers=_object(serving=_COUNT, missing=_COUNT, restarts=_COUNT),
    connections=_COUNTS,
    users=_COUNT,
    connectionsOpened=_COUNT,
    handshakesRefused=_COUNTS,
    authentications=_COUNT,
    authenticationFailures=_COUNTS,
    resumes=_COUNTS,
    closes=_COUNTS,
    missedEventsLately={**_COUNT, "description": "Devices closed with 4413 in the last five minutes."},
    slowConsumers=_COUNT,
    sendBuffer=_object(peakEvents=_COUNT, peakBytes=_COUNT),
    events=_object(accepted=_COUNTS, duplicates=_COUNT, delivered=_COUNT, echoes=_COUNT),
    publishToWrite=_object(upTo=_COUNTS, count=_COUNT, sum=_NUMBER),
    engine=_object(
        name={"type": "string"},
        place={"type": "string"},
        up={"type": "boolean"},
        figures=_array(
            _object(
                name={"type": "string"}, text={"type": "string"}, value=_NUMBER, total={"type": "boolean"}
            )
        ),
    ),
    process=_object(memoryBytes=_NUMBER, cpuSeconds=_NUMBER, openFiles=_NUMBER, maxFiles=_NUMBER),
)
_EVENT = {"event": {"type": "string"}, "vault": AN_ID, "group": AN_ID}
_LINE = _object(
    {
        "user": {**AN_ID, "description": "With `watching`."},
        "resumed": {"type": "boolean", "description": "With `watching`, if there was `since`."},
        **_EVENT,
        "cursor": {"type": "string"},
        "bytes": {**_COUNT, "description": "With `event`: the size of its data."},
        "data": {"description": f"With `event`, if it has at most {MOST_DATA_BYTES} bytes."},
        "count": {**_COUNT, "description": "With `missed`: how many events."},
        "reason": {"const": "draining", "description": "With `end`."},
    },
    type={"enum": ["watching", "event", "missed", "lost", "alive", "end"]},
    time=_NUMBER,
)
SCHEMAS: Json = {
    "consoleOverview": _OVERVIEW,
    "consoleUsers": _object({"next": AN_ID}, users=_array({"$ref": "#/components/schemas/UserCount"})),
    "consoleDevices": _object(
        user=AN_ID, time=_NUMBER, total=_COUNT, devices=_array({"$ref": "#/components/schemas/DeviceView"})
    ),
    "consoleLine": _LINE,
    # From Python 3.13 on the compiler takes the indentation out of docstrings.
    **{
        name: {**schema, "description": cleandoc(schema["description"])}
        for name, schema in msgspec.json.schema_components(
            [DeviceView, UserCount], ref_template="#/components/schemas/{name}"
        )[1].items()
    },
}
"""Components; those of a user and of a device are the code's own."""


def _operation(name: str, summary: str, *parameters: Json, errors: tuple[str, ...] = ()) -> Operation:
    schema = {"$ref": f"#/components/schemas/console{name.capitalize()}"}
    return Operation(
        "get",
        f"/console/api/{name}",
        name,
        summary,
        200,
        {_JSON: {"schema": schema}},
        errors=(*_ERRORS, *errors),
        keyed=True,
        description=f"{_UNSTABLE}404 if the setting `console` is off.",
        parameters=parameters,
    )


OPERATIONS = (
    _operation("overview", "What the daemon is doing, as totals since its start"),
    _operation(
        "users",
        "The users who have a device here, a page at a time, in the order of their ids",
        query_parameter(
            "after", _SOME_TEXT, "Only users whose id comes after this one: the `next` of an answer."
        ),
        query_parameter("prefix", _SOME_TEXT, "Only users whose id begins so."),
        query_parameter(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": MOST_USERS, "default": 100},
            "At most so many.",
        ),
        errors=("invalid-query",),
    ),
    _operation(
        "devices",
        "The devices of one user",
        _USER,
        query_parameter("group", _SOME_TEXT, "Only devices of this token group."),
        query_parameter(
            "vaults",
            {"type": "integer", "minimum": 0, "maximum": 1000, "default": 20},
            "At most so many vaults of each subscription are named.",
        ),
        errors=("invalid-query",),
    ),
    Operation(
        "get",
        "/console/api/watch",
        "watch",
        "One user's events as the server accepts them",
        200,
        {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/consoleLine"}}},
        errors=("unauthorized", "not-found", "invalid-query", "engine-unavailable", "too-many-watchers"),
        keyed=True,
        description=f"{_UNSTABLE}A line of JSON each, without end; at least one in {ALIVE_SECONDS:g} "
        "seconds. 404 if the setting `console` is off.",
        parameters=(
            _USER,
            query_parameter("since", _SOME_TEXT, "The cursor after which to go on."),
        ),
    ),
)
