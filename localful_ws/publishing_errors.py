"""Why what a publisher sent is refused, and where in it that is (spec/protocol.md, "Publish").

msgspec refuses in words of its own, and says where in words too. So what it has refused is parsed again here,
into plain objects, and looked through from the beginning; unless it is so long that this would take its time.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any, Final

import msgspec

from localful_ws.protocol import MAX_DEPTH, MAX_ID, find_too_deep, is_text, refuse_constant

Text = bytes | bytearray
"""JSON, in UTF-8 if it is right."""

_Check = tuple[Callable[[object], bool], str]
"""What a value must be, as a function and as the rest of a sentence."""


class PublishError(Exception):
    """A body that can't be accepted, as the publisher is told of it.

    Attributes:
        status: The HTTP status: 400, 413 or 422.
        identifier: One word for programs.
        message: A sentence for the publisher's developer.
        context: Where it is: ``key``, and in a batch the ``index`` of the event.
    """

    def __init__(
        self, status: int, identifier: str, message: str, context: Mapping[str, int | str] | None = None
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.identifier: Final = identifier
        self.message: Final = message
        self.context: Final = context or {}


def not_json(message: str, key: str | None = None) -> PublishError:
    """Say in a sentence that something is not JSON in UTF-8."""
    return PublishError(400, "not-json", message, _context(None, key))


def invalid(message: str, index: int | None = None, key: str | None = None) -> PublishError:
    """Say in a sentence why a value, or an event, can't be."""
    return PublishError(422, "invalid-body", f"{_where(index)}{message}", _context(index, key))


def event_too_big(size: int, most: int, index: int | None) -> PublishError:
    """Say that the data of an event is over ``max-event-bytes``."""
    message = f"{_where(index)}data has {size} bytes of JSON, and may have {most}."
    return PublishError(413, "event-too-big", message, _context(index, "data"))


def too_deep(body: Text, depth: int) -> PublishError:
    """Say where a body is nested too deeply, which `localful_ws.protocol.is_too_deep` has found it to be."""
    if len(body) > LONG:
        return invalid(f"The body {_TOO_DEEP}.")
    match find_too_deep(body.decode(errors="replace"), depth):
        case ("events", int(index), str(key), *_):
            return _invalid_value(_TOO_DEEP, index, key)
        case ("events", int(index), *_):
            return invalid(f"It {_TOO_DEEP}.", index)
        case (str(key), *_):
            return _invalid_value(_TOO_DEEP, None, key)
        case _:
            return invalid(f"The body {_TOO_DEEP}.")


def explain(
    refusal: msgspec.DecodeError,
    text: Text,
    what: str,
    key: str | None,
    find_fault: Callable[[object], PublishError | None],
) -> PublishError:
    """Explain why msgspec refused a text.

    Args:
        refusal: What msgspec says.
        text: The text, in UTF-8.
        what: How a sentence about it begins.
        key: The key whose value it is, if it is one.
        find_fault: Looks for what is wrong with it, if it is JSON.
    """
    if len(text) > LONG:
        # To read it once more would hold up everybody else.
        return _translate(refusal, what, key)
    try:
        content = _decode_json(text.decode())
    except ValueError as error:
        return not_json(f"{what} is not JSON: {error}.", key)
    return find_fault(content) or invalid(f"{what} can't be read.", None, key)


def _translate(refusal: msgspec.DecodeError, what: str, key: str | None) -> PublishError:
    """Say it in msgspec's words, and where it is in ours."""
    if not isinstance(refusal, msgspec.ValidationError):
        # What it says of half a surrogate pair is that the input is truncated.
        return not_json(f"{what} is not JSON, or has half a surrogate pair in it ({refusal}).", key)
    complaint, _, place = str(refusal).partition(" - at ")
    found = _PLACE.fullmatch(place)
    index, name = (None, None) if found is None else found.groups()
    named = f"{name}: " if name else ""
    return invalid(f"{named}{complaint}.", None if index is None else int(index), name)


class JsonObject(list[tuple[str, Any]]):
    """An object of JSON as it was written: if a key is there twice, either may be what is wrong."""


def fault_in_body(content: object) -> PublishError | None:
    """Find what is wrong with one event, or with a batch."""
    if not isinstance(content, JsonObject):
        return invalid("The body must be a JSON object.")
    keys = dict(content)
    if "event" not in keys and "events" not in keys:
        return invalid("event is missing; send one event, or a list of them as events.", None, "event")
    if "events" not in keys:
        return fault_in_event(content)
    return next(filter(None, _faults_in_batch(content)), None)


def fault_in_event(content: object, index: int | None = None) -> PublishError | None:
    """Find what is wrong with an event, which is one of a batch if there is an index."""
    if not isinstance(content, JsonObject):
        return invalid("It must be a JSON object.", index)
    missing = [key for key in ("event", "user") if key not in dict(content)]
    if missing:
        return invalid(f"{missing[0]} is missing.", index, missing[0])
    return _fault_in_values(content, _EVENT_KEYS, index)


def fault_in_disconnect(content: object) -> PublishError | None:
    """Find what is wrong with the values of a disconnect."""
    if not isinstance(content, JsonObject):
        return invalid("The body must be a JSON object.")
    return _fault_in_values(content, _DISCONNECT_KEYS, None)


def fault_in_data(content: object) -> PublishError | None:
    """Find what is wrong with ``data`` that came by itself."""
    return _fault_in_values([("data", content)], {}, None)


def _faults_in_batch(content: JsonObject) -> Iterator[PublishError | None]:
    for key, value in content:
        if key != "events":
            yield _fault_in_values([(key, value)], {}, None)
        elif not isinstance(value, list) or isinstance(value, JsonObject):
            yield invalid("events must be a list of events.", None, key)
        else:
            yield from map(fault_in_event, value, count())


def _fault_in_values(
    pairs: Iterable[tuple[str, object]], known: Mapping[str, _Check], index: int | None
) -> PublishError | None:
    for key, value in pairs:
        fits, requirement = known.get(key, _ANYTHING)
        if not fits(value):
            return invalid(f"{key} {requirement}.", index, key)
        try:
            json.dumps([key, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return _invalid_value("has half a surrogate pair in it, which is no character", index, key)
    return None


def _invalid_value(complaint: str, index: int | None, key: str) -> PublishError:
    """Refuse the value of any key, and name that if it is fit to be repeated."""
    named = key if is_text(key) else None
    return invalid(f"{named or 'A value'} {complaint}.", index, named)


def _where(index: int | None) -> str:
    return "" if index is None else f"events[{index}]: "


def _context(index: int | None, key: str | None) -> dict[str, int | str]:
    return {name: value for name, value in (("index", index), ("key", key)) if value is not None}


LONG: Final = 256 * 1024
"""A body beyond this size, in bytes, is not looked through for what is wrong with it."""

_PLACE: Final = re.compile(r"`\$(?:\.events\[(\d+)\])?(?:\.(\w+))?`")
_TOO_DEEP: Final = f"is nested more than {MAX_DEPTH} deep"
_ANYTHING: Final[_Check] = (lambda _: True, "")
_AN_ID: Final[_Check] = (is_text, f"must be a string of 1 to {MAX_ID} characters")
_EVENT_KEYS: Final[Mapping[str, _Check]] = {
    "event": (lambda value: isinstance(value, str), "must be the name of an event"),
    "user": _AN_ID,
    "vault": _AN_ID,
    "group": _AN_ID,
    "id": _AN_ID,
}
_A_MOMENT: Final[_Check] = (
    lambda value: isinstance(value, float) and math.isfinite(value),
    "must be a moment in Unix seconds",
)
_DISCONNECT_KEYS: Final[Mapping[str, _Check]] = {
    "user": _AN_ID,
    "group": _AN_ID,
    "until": _A_MOMENT,
    "issuedBefore": _A_MOMENT,
}
# Of numbers only a moment is looked at, and a float takes any number.
_decode_json: Final = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=float, parse_constant=refuse_constant
).decode
