"""What a publisher sends, from bytes to events (spec/protocol.md, "Publishing").

msgspec reads a body once, straight into attrs classes, and leaves ``data`` as the bytes it was. It coerces
nothing. Every failure leaves as `PublishError`. Pure: no I/O, no clock.
"""

from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Final, TypeVar

import msgspec
from attrs import evolve, field, frozen
from msgspec import UNSET, UnsetType

from localful_ws.protocol import (
    END_OF_TIME,
    MAX_DEPTH,
    MAX_ID,
    MESSAGE_DEPTH,
    Event,
    EventName,
    Session,
    is_too_deep,
    too_deep_in_steps,
)
from localful_ws.publishing_errors import (
    LONG,
    JsonObject,
    PublishError,
    Text,
    event_too_big,
    explain,
    fault_in_body,
    fault_in_data,
    fault_in_disconnect,
    fault_in_event,
    invalid,
    not_json,
    too_deep,
)
from localful_ws.steps import Steps, finish

__all__ = [
    "Disconnect",
    "PublishError",
    "PublishLimits",
    "Text",
    "body_too_big",
    "decode_disconnect_body",
    "decode_publish_body",
    "read_intake_entry",
    "read_publish_body",
]

T = TypeVar("T")


@frozen
class PublishLimits:
    """What a publisher may send, from the settings.

    Attributes:
        max_body_bytes: Size of a whole body (``max-publish-bytes``).
        max_event_bytes: Size of one event's ``data``, as JSON text (``max-event-bytes``).
        max_events: Events in a batch.
    """

    max_body_bytes: int = 32 * 1024 * 1024
    max_event_bytes: int = 65536
    max_events: int = 1000


@frozen
class Disconnect:
    """Refuse tokens that were issued before a moment, and close the connections that came with them.

    User and group name one login. A user alone is all of the user's logins; a group alone is the logins of
    that group, whoever's they are.

    Attributes:
        user: The user; None is anybody.
        group: The token group; None is any. One of the two is named at least.
        at: When it was asked for, Unix seconds: tokens that were issued before are refused.
        until: Until when to refuse, Unix seconds.

    Raises:
        ValueError: If it would name everybody.
    """

    user: str | None = None
    group: str | None = None
    at: float = field(kw_only=True)
    until: float = field(kw_only=True)

    def __attrs_post_init__(self) -> None:
        """See that somebody is named."""
        if self.user is None and self.group is None:
            raise ValueError("A disconnect names a user, a group or both.")

    def refuses(self, session: Session) -> bool:
        """Whether it is about this session's token, as long as it is in force."""
        return (
            self.user in (None, session.user)
            and self.group in (None, session.group)
            and session.is_issued_before(self.at)
        )


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
class _Batch:
    """A batch; without ``events`` it is one event, and read as such."""

    events: list[_PublishedEvent] | UnsetType = UNSET
    event: msgspec.Raw = _ABSENT


@frozen
class _CountedBatch:
    events: list[msgspec.Raw] = field(factory=list[msgspec.Raw])


@frozen
class _DisconnectBody:
    user: _Id | UnsetType = UNSET
    group: _Id | UnsetType = UNSET
    until: float | UnsetType = UNSET
    issuedBefore: float | UnsetType = UNSET  # noqa: N815 - as it is written


_Utf8Decoder: Final = getincrementaldecoder("utf-8")
_batch_decoder: Final = msgspec.json.Decoder(_Batch)
_counting_decoder: Final = msgspec.json.Decoder(_CountedBatch)
_event_decoder: Final = msgspec.json.Decoder(_PublishedEvent)
_raw_decoder: Final = msgspec.json.Decoder(msgspec.Raw)
_disconnect_decoder: Final = msgspec.json.Decoder(_DisconnectBody)
# So many times as many events as there may be.
_MANY: Final = 4
_BATCH_DEPTH: Final = MESSAGE_DEPTH + 2  # the batch, its list, and an event
_EVENT_NAMES: Final = {name.value: name for name in EventName}


def decode_publish_body(body: Text, limits: PublishLimits) -> list[Event]:
    """Read the body of a publish: one event, or ``{"events": [...]}``.

    A batch is all or nothing; one of no events is accepted and comes to nothing. Unknown extra keys are
    ignored, and beside ``events`` all but ``event``. What comes out does not keep ``body`` alive.

    Args:
        body: The whole body.
        limits: What is too much.

    Returns:
        The events, in the publisher's order, each with the bytes that ``data`` had.

    Raises:
        PublishError: 400 if the body is not JSON in UTF-8; 413 if it, or the data of one event, is too big;
            422 if it is no event or batch, is nested too deeply, or holds an event that can't be.
    """
    return finish(read_publish_body(body, limits))


def read_publish_body(body: Text, limits: PublishLimits) -> Steps[list[Event]]:
    """The same as `decode_publish_body`, in steps.

    The longest one, for a body of 32 MiB, takes 10 to 100 ms, by what is in it.
    """
    return (yield from _read_publish_body(body, limits))[0]


def read_intake_entry(
    fields: Mapping[bytes, bytes], entry: str, limits: PublishLimits, *, now: float, seconds: float
) -> Steps[list[Event] | Disconnect]:
    """Read an entry of the intake in steps (spec/protocol.md, "Publishing without HTTP").

    Args:
        fields: Its fields: those of an event, or a ``body``, or a ``disconnect``. Others are ignored.
        entry: Its id, of which the ids of events are made that have none. It begins with the moment, in
            milliseconds, at which a disconnect was asked for.
        limits: What is too much.
        now: The present, in Unix seconds: nothing was asked for later.
        seconds: As for `decode_disconnect_body`.

    Returns:
        The events, in order, each with an id; or the disconnect, the same however often the entry is read.

    Raises:
        PublishError: As from `decode_publish_body` or `decode_disconnect_body`.
    """
    disconnect, body = fields.get(b"disconnect"), fields.get(b"body")
    if disconnect is not None:
        if body is not None or b"event" in fields:
            raise invalid(
                "Send either a disconnect or what is to be published, not both.", None, "disconnect"
            )
        return decode_disconnect_body(disconnect, min(now, int(entry.partition("-")[0]) / 1000), seconds)
    if body is None:
        with_id = fields if b"id" in fields else {**fields, b"id": f"intake:{entry}".encode()}
        return [_accept(_of_fields(with_id), None, limits)]
    if b"event" in fields:
        raise invalid("Send either a body or the fields of an event, not both.", None, "body")
    events, is_batch = yield from _read_publish_body(body, limits)
    return [
        event if event.id is not None else evolve(event, id=f"intake:{entry}" + f":{index}" * is_batch)
        for index, event in enumerate(events)
    ]


def decode_disconnect_body(body: Text, now: float, seconds: float) -> Disconnect:
    """Read the body of a disconnect: ``user``, ``group`` or both, perhaps ``issuedBefore`` and ``until``.

    Args:
        body: The whole body.
        now: When it was asked for, in Unix seconds: what ``issuedBefore`` is at most.
        seconds: How long it lasts if the body does not say until when.

    Raises:
        PublishError: 400 if the body is not JSON in UTF-8; 422 if it names neither, if ``until`` is not in
            the future, or if either moment must be one in milliseconds.
    """
    finish(_check_body(body, MESSAGE_DEPTH))
    wanted = _decode(_disconnect_decoder, body, fault_in_disconnect)
    if wanted.user is UNSET and wanted.group is UNSET:
        raise invalid("Name the user to disconnect, or user and group of one login, or a group.")
    if wanted.until is not UNSET and wanted.until <= now:
        raise invalid("until must be in the future, in Unix seconds.", None, "until")
    for key, moment in (("until", wanted.until), ("issuedBefore", wanted.issuedBefore)):
        if moment is not UNSET and moment >= END_OF_TIME:
            raise invalid(f"{key} must be in Unix seconds, not in milliseconds.", None, key)
    return Disconnect(
        None if wanted.user is UNSET else wanted.user,
        None if wanted.group is UNSET else wanted.group,
        at=now if wanted.issuedBefore is UNSET else min(now, wanted.issuedBefore),
        until=now + seconds if wanted.until is UNSET else wanted.until,
    )


def body_too_big(limits: PublishLimits) -> PublishError:
    """Say that a body is over ``max-publish-bytes``."""
    return PublishError(
        413, "body-too-big", f"A body has at most {limits.max_body_bytes} bytes; send smaller batches."
    )


def _read_publish_body(body: Text, limits: PublishLimits) -> Steps[tuple[list[Event], bool]]:
    """Read the body of a publish; also says whether it was a batch."""
    if len(body) > limits.max_body_bytes:
        raise body_too_big(limits)
    yield from _check_body(body, _BATCH_DEPTH)
    if len(body) > LONG:
        many = body.count(b'"event"') > _MANY * limits.max_events
        yield
        if many:
            # Or such words in them: to make objects of all would take a second, and the memory.
            _check_count(len(_decode(_counting_decoder, body, fault_in_body).events), limits)
            yield
    batch = _decode(_batch_decoder, body, fault_in_body)
    yield
    if batch.events is UNSET:
        yield from _check_depth(body, MESSAGE_DEPTH)
        return [_accept(_decode(_event_decoder, body, fault_in_body), None, limits)], False
    if batch.event:
        raise invalid("Send either event or events, not both.", None, "events")
    _check_count(len(batch.events), limits)
    events, size = list[Event](), 0
    for index, event in enumerate(batch.events):
        size += len(event.data)
        if size > LONG:
            yield
            size = 0
        events.append(_accept(event, index, limits))
    return events, True


def _check_count(count: int, limits: PublishLimits) -> None:
    if count > limits.max_events:
        raise invalid(
            f"A batch has at most {limits.max_events} events; this one has {count}.", None, "events"
        )


def _check_body(body: Text, depth: int) -> Steps[None]:
    """Refuse what no parser is to be given."""
    if not body:
        raise not_json("The body is empty; send a JSON object.")
    yield from _check_depth(body, depth)
    yield from _check_utf8(body)


def _check_depth(body: Text, depth: int) -> Steps[None]:
    for deeper in too_deep_in_steps(body, depth):
        if deeper:
            raise too_deep(body, depth)
        yield


def _check_utf8(text: Text, what: str = "The body", key: str | None = None) -> Steps[None]:
    """Refuse what is not UTF-8: msgspec does not look into strings that it skips or passes on as they are."""
    if text.isascii():
        return
    decoder = _Utf8Decoder()
    for begin in range(0, len(text), LONG):
        kept, _ = decoder.getstate()
        end = begin + LONG
        try:
            decoder.decode(text[begin:end], final=end >= len(text))
        except UnicodeDecodeError as error:
            where = begin - len(kept) + error.start
            raise not_json(f"{what} is not UTF-8: byte {where} is wrong.", key) from None
        yield


def _decode(
    decoder: msgspec.json.Decoder[T],
    text: Text,
    find_fault: Callable[[object], PublishError | None],
    what: str = "The body",
    key: str | None = None,
) -> T:
    """Read JSON that is UTF-8, and describe what is wrong with it in our own words."""
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        raise explain(error, text, what, key, find_fault) from None


def _of_fields(fields: Mapping[bytes, bytes]) -> _PublishedEvent:
    """Make an event of fields that come one by one, each of them text."""
    texts: dict[str, str] = {}
    for key in ("event", "user", "vault", "group", "id"):
        value = fields.get(key.encode())
        if value is not None:
            try:
                texts[key] = value.decode()
            except UnicodeDecodeError as error:
                raise not_json(f"{key} is not UTF-8: byte {error.start} is wrong.", key) from None
    fault = fault_in_event(JsonObject(texts.items()))
    if fault is not None:
        raise fault
    data = fields.get(b"data", b"null")
    if is_too_deep(data, MAX_DEPTH):
        raise invalid(f"data is nested more than {MAX_DEPTH} deep.", None, "data")
    finish(_check_utf8(data, "data", "data"))
    return _PublishedEvent(
        texts["event"],
        texts["user"],
        texts.get("vault", UNSET),
        texts.get("group", UNSET),
        _decode(_raw_decoder, data, fault_in_data, "data", "data"),
        texts.get("id", UNSET),
    )


def _accept(published: _PublishedEvent, index: int | None, limits: PublishLimits) -> Event:
    name = _EVENT_NAMES.get(published.event)
    if name is None:
        raise invalid(_unknown_event(published.event), index, "event")
    data = published.data
    size = len(data)
    if size > limits.max_event_bytes:
        raise event_too_big(size, limits.max_event_bytes, index)
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
        raise invalid(str(error), index, "vault") from None


def _unknown_event(name: str) -> str:
    # Anything may stand there, of any length; only what could be a slip of the pen is worth a comparison.
    near = get_close_matches(name, _EVENT_NAMES, 1) if len(name) <= MAX_ID else []
    if near:
        return f"There is no such event; did you mean {near[0]}?"
    return f"There is no such event; there are {', '.join(_EVENT_NAMES)}."
