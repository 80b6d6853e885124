"""What a publisher sends, from bytes to events (spec/protocol.md, "Publishing").

msgspec reads a body once, straight into attrs classes, and leaves ``data`` as the bytes it was. It coerces
nothing. Every failure leaves as `PublishError`. Pure: no I/O, no clock.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, TypeVar

import msgspec
from attrs import evolve, field, frozen
from msgspec import UNSET, UnsetType

from localful_ws.protocol import MAX_ID, Event, EventName

T = TypeVar("T")


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


@frozen
class PublishLimits:
    """What a publisher may send, from the settings.

    Attributes:
        max_body_bytes: Size of a whole body (``max-publish-bytes``).
        max_event_bytes: Size of one event's ``data``, as JSON text (``max-event-bytes``).
        max_events: Events in a batch.
        body_timeout: Seconds within which a body must have arrived.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_event_bytes: int = 65536
    max_events: int = 1000
    body_timeout: float = 30.0


@frozen
class Disconnect:
    """Close a user's or a token group's connections and refuse their tokens. Exactly one of the two is named.

    Attributes:
        user: The user.
        group: The token group.
        at: When it was asked for, Unix seconds: a user's tokens that were issued before are refused.
        until: Until when to refuse, Unix seconds.
        close: Whether to close their connections; if not, only new sessions are refused.
    """

    user: str | None = None
    group: str | None = None
    at: float = field(kw_only=True)
    until: float = field(kw_only=True)
    close: bool = field(default=True, kw_only=True)


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
# A key that isn't there is UNSET; null is a value, of a wrong type. A Raw that isn't there is empty.
_ABSENT: Final = msgspec.Raw()


@frozen
class _PublishedEvent:
    event: str
    user: _Id
    vault: _Id | UnsetType = UNSET
    group: _Id | UnsetType = UNSET
    data: msgspec.Raw = _ABSENT
    id: _Id | UnsetType = UNSET


@frozen
class _PublishBody:
    """A batch, or one event: one class for both, so that the body need be read once only."""

    events: list[_PublishedEvent] | UnsetType = UNSET
    event: str | UnsetType = UNSET
    user: _Id | UnsetType = UNSET
    vault: _Id | UnsetType = UNSET
    group: _Id | UnsetType = UNSET
    data: msgspec.Raw = _ABSENT
    id: _Id | UnsetType = UNSET


@frozen
class _DisconnectBody:
    user: _Id | UnsetType = UNSET
    group: _Id | UnsetType = UNSET
    until: float | UnsetType = UNSET


_publish_decoder: Final = msgspec.json.Decoder(_PublishBody)
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_disconnect_decoder: Final = msgspec.json.Decoder(_DisconnectBody)
_EVENT_NAMES: Final = {name.value: name for name in EventName}
_AN_ID: Final = f"must be a string of 1 to {MAX_ID} characters"
_REQUIREMENTS: Final = {
    "events": "must be a list of events",
    "event": "must be the name of an event",
    "user": _AN_ID,
    "vault": _AN_ID,
    "group": _AN_ID,
    "id": _AN_ID,
    "until": "must be a moment in Unix seconds",
}
# How msgspec ends a message about a value it can't accept, and how it begins one about a key that is missing.
_PLACE: Final = re.compile(r" - at `\$(?:\.events\[(?P<index>\d+)\])?(?:\.(?P<key>\w+))?`$")
_MISSING: Final = re.compile(r"missing required field `(?P<key>\w+)`")


def decode_publish_body(body: bytes, limits: PublishLimits) -> list[Event]:
    """Read the body of a publish: one event, or ``{"events": [...]}``.

    A batch is all or nothing; one of no events is accepted and comes to nothing. Unknown extra keys are
    ignored. What comes out does not keep ``body`` alive.

    Args:
        body: The whole body.
        limits: What is too much.

    Returns:
        The events, in the publisher's order, each with the bytes that ``data`` had.

    Raises:
        PublishError: 400 if the body is not JSON in UTF-8; 413 if it, or the data of one event, is too big;
            422 if it is no event or batch, or holds an event that can't be.
    """
    return _decode_publish_body(body, limits)[0]


def decode_intake_entry(fields: Mapping[bytes, bytes], entry: str, limits: PublishLimits) -> list[Event]:
    """Read an entry of the intake (spec/protocol.md, "Publishing without HTTP").

    Args:
        fields: Its fields: those of an event, or a ``body``. Others are ignored.
        entry: Its id, of which the ids of events are made that have none.
        limits: What is too much.

    Returns:
        The events, in order; each has an id.

    Raises:
        PublishError: As from `decode_publish_body`.
    """
    body = fields.get(b"body")
    if body is None:
        with_id = fields if b"id" in fields else {**fields, b"id": f"intake:{entry}".encode()}
        return [_accept(_of_fields(with_id), None, limits)]
    if b"event" in fields:
        raise _invalid("Send either a body or the fields of an event, not both.", None, "body")
    events, is_batch = _decode_publish_body(body, limits)
    return [
        event if event.id is not None else evolve(event, id=f"intake:{entry}" + f":{index}" * is_batch)
        for index, event in enumerate(events)
    ]


def decode_disconnect_body(body: bytes, now: float, seconds: float) -> Disconnect:
    """Read the body of a disconnect: ``{"user": ...}`` or ``{"group": ...}``, and perhaps ``until``.

    Args:
        body: The whole body.
        now: The present, in Unix seconds.
        seconds: How long it lasts if the body does not say until when.

    Raises:
        PublishError: 400 if the body is not JSON in UTF-8; 422 if it names neither or both, or ``until`` is
            not in the future.
    """
    wanted = _decode(_disconnect_decoder, body)
    if (wanted.user is UNSET) == (wanted.group is UNSET):
        raise _invalid("Name either the user or the group to disconnect.", None, None)
    if wanted.until is not UNSET and wanted.until <= now:
        raise _invalid("until must be in the future, in Unix seconds.", None, "until")
    return Disconnect(
        None if wanted.user is UNSET else wanted.user,
        None if wanted.group is UNSET else wanted.group,
        at=now,
        until=now + seconds if wanted.until is UNSET else wanted.until,
    )


def body_too_big(limits: PublishLimits) -> PublishError:
    """Say that a body is over ``max-publish-bytes``."""
    return PublishError(
        413, "body-too-big", f"A body has at most {limits.max_body_bytes} bytes; send smaller batches."
    )


def _decode_publish_body(body: bytes, limits: PublishLimits) -> tuple[list[Event], bool]:
    """Read the body of a publish; also says whether it was a batch."""
    if len(body) > limits.max_body_bytes:
        raise body_too_big(limits)
    published = _decode(_publish_decoder, body)
    if published.events is UNSET:
        return [_accept(_single(published), None, limits)], False
    if published.event is not UNSET:
        raise _invalid("Send either event or events, not both.", None, "events")
    if len(published.events) > limits.max_events:
        raise _invalid(
            f"A batch has at most {limits.max_events} events; this one has {len(published.events)}.",
            None,
            "events",
        )
    return [_accept(event, index, limits) for index, event in enumerate(published.events)], True


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Read JSON in UTF-8, and describe what is wrong with it in our own words."""
    if not body:
        raise PublishError(400, "not-json", "The body is empty; send a JSON object.")
    return _decode_json(decoder, body, "The body", None)


def _decode_json(decoder: msgspec.json.Decoder[T], text: bytes, what: str, key: str | None) -> T:
    try:
        if not text.isascii():
            # msgspec does not look into strings that it skips or passes on as they are.
            text.decode()
        return decoder.decode(text)
    except UnicodeDecodeError as error:
        raise _not_json(f"{what} is not UTF-8: byte {error.start} is wrong.", key) from None
    except msgspec.ValidationError as error:
        raise _invalid_value(str(error)) from None
    except msgspec.DecodeError as error:
        raise _not_json(f"{what} is not JSON: {error}.", key) from None
    except RecursionError:
        raise _invalid(f"{what} is nested too deeply.", None, key) from None


def _of_fields(fields: Mapping[bytes, bytes]) -> _PublishedEvent:
    """Make an event of fields that come one by one, each of them text."""
    texts: dict[str, str] = {}
    for key in ("event", "user", "vault", "group", "id"):
        value = fields.get(key.encode())
        if value is not None:
            try:
                texts[key] = value.decode()
            except UnicodeDecodeError as error:
                raise _not_json(f"{key} is not UTF-8: byte {error.start} is wrong.", key) from None
    try:
        published = msgspec.convert(texts, _PublishedEvent)
    except msgspec.ValidationError as error:
        raise _invalid_value(str(error)) from None
    data = fields.get(b"data")
    return _PublishedEvent(
        published.event,
        published.user,
        published.vault,
        published.group,
        _ABSENT if data is None else _decode_json(_raw_decoder, data, "data", "data"),
        published.id,
    )


def _single(published: _PublishBody) -> _PublishedEvent:
    """Take a body without ``events`` for an event, which must have what an event in a batch must have."""
    if published.event is UNSET:
        raise _invalid("event is missing; send one event, or a list of them as events.", None, "event")
    if published.user is UNSET:
        raise _invalid("user is missing.", None, "user")
    return _PublishedEvent(
        published.event, published.user, published.vault, published.group, published.data, published.id
    )


def _accept(published: _PublishedEvent, index: int | None, limits: PublishLimits) -> Event:
    name = _EVENT_NAMES.get(published.event)
    if name is None:
        raise _invalid(_unknown_event(published.event), index, "event")
    data = published.data
    size = len(data)
    if size > limits.max_event_bytes:
        raise PublishError(
            413,
            "event-too-big",
            f"{_where(index)}data has {size} bytes of JSON, and may have {limits.max_event_bytes}.",
            _context(index, "data"),
        )
    vault, group = published.vault, published.group
    try:
        return Event(
            name,
            published.user,
            None if vault is UNSET else vault,
            None if group is UNSET else group,
            # A copy: msgspec's points into the body and would keep all of it.
            bytes(data) if size else b"null",
            None if published.id is UNSET else published.id,
        )
    except ValueError as error:
        raise _invalid(str(error), index, "vault") from None


def _unknown_event(name: str) -> str:
    # Anything may stand there, of any length; only what could be a slip of the pen is worth a comparison.
    near = get_close_matches(name, _EVENT_NAMES, 1) if len(name) <= MAX_ID else []
    if near:
        return f"There is no such event; did you mean {near[0]}?"
    return f"There is no such event; there are {', '.join(_EVENT_NAMES)}."


def _invalid_value(complaint: str) -> PublishError:
    """Turn msgspec's message about a value into ours."""
    place = _PLACE.search(complaint)
    missing = _MISSING.search(complaint)
    index = int(place["index"]) if place and place["index"] else None
    if missing:
        return _invalid(f"{missing['key']} is missing.", index, missing["key"])
    key = place["key"] if place else None
    if key in _REQUIREMENTS:
        return _invalid(f"{key} {_REQUIREMENTS[key]}.", index, key)
    return _invalid(f"{'The body' if index is None else 'It'} must be a JSON object.", index, None)


def _not_json(message: str, key: str | None) -> PublishError:
    return PublishError(400, "not-json", message, _context(None, key))


def _invalid(message: str, index: int | None, key: str | None) -> PublishError:
    return PublishError(422, "invalid-body", f"{_where(index)}{message}", _context(index, key))


def _where(index: int | None) -> str:
    return "" if index is None else f"events[{index}]: "


def _context(index: int | None, key: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("index", index), ("key", key)) if value is not None}
