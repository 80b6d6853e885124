"""What publishers send: the body of a publish, of a disconnect, and an entry of the intake.

The first byte says which; see `KINDS`.
"""

import json
from collections.abc import Callable

from localful_ws.client.codec import ReceivedEvent, decode_server_message
from localful_ws.protocol import END_OF_TIME, MAX_ID, Event, encode_event
from localful_ws.publishing import (
    Disconnect,
    PublishError,
    PublishLimits,
    decode_disconnect_body,
    decode_publish_body,
    read_intake_entry,
)
from localful_ws.steps import finish

# Small, so that a short input can be over them.
_LIMITS = PublishLimits(max_body_bytes=1500, max_event_bytes=200, max_events=4)
_NOW = 1_700_000_000.0
_SECONDS = 60.0
_IDENTIFIERS = {
    400: {"not-json"},
    413: {"body-too-big", "event-too-big"},
    422: {"invalid-body"},
}


def check(data: bytes) -> None:
    """Give bytes to what their first one names."""
    kind = KINDS.get(data[:1])
    if kind is None:
        return
    try:
        kind(data[1:])
    except PublishError as error:
        _check_refusal(error)


def _check_refusal(error: PublishError) -> None:
    assert error.identifier in _IDENTIFIERS[error.status]
    assert error.message.endswith((".", "?"))
    assert len(error.message) < 1000
    assert set(error.context) <= {"index", "key"}
    assert 0 <= int(error.context.get("index", 0)) < _LIMITS.max_body_bytes


def _check_publish(body: bytes) -> None:
    events = decode_publish_body(body, _LIMITS)
    assert len(events) <= _LIMITS.max_events
    for event in events:
        _check_event(event)
    again = b",".join(map(_encode, events))
    assert decode_publish_body(b'{"events":[%b]}' % again, PublishLimits()) == events


def _check_disconnect(body: bytes) -> None:
    _check_one_disconnect(decode_disconnect_body(body, _NOW, _SECONDS))


def _check_one_disconnect(disconnect: Disconnect) -> None:
    named = [name for name in (disconnect.user, disconnect.group) if name is not None]
    assert named
    assert all(1 <= len(name) <= MAX_ID for name in named)
    assert END_OF_TIME > disconnect.until > disconnect.at == _NOW


def _check_intake(entry: bytes) -> None:
    """An entry is written as its fields with their values, each ended by a zero byte."""
    parts = entry.split(b"\0")
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    decoded = finish(
        read_intake_entry(fields, f"{_NOW * 1000:.0f}-0", _LIMITS, now=_NOW + 1, seconds=_SECONDS)
    )
    if isinstance(decoded, Disconnect):
        _check_one_disconnect(decoded)
        return
    for event in decoded:
        assert event.id
        _check_event(event)


KINDS: dict[bytes, Callable[[bytes], None]] = {
    b"p": _check_publish,
    b"d": _check_disconnect,
    b"i": _check_intake,
}


def _check_event(event: Event) -> None:
    assert len(event.data) <= _LIMITS.max_event_bytes
    for name in (event.user, event.vault, event.group, event.id):
        # The intake's own ids of events are a little longer than those of others may be.
        assert name is None or 1 <= len(name) <= MAX_ID
    sent = encode_event(event, "c.1")
    text = sent.decode()
    received = decode_server_message(text)
    assert isinstance(received, ReceivedEvent)
    assert (received.event, received.vault, received.cursor) == (event.name.value, event.vault, "c.1")
    assert event.user not in {*json.loads(text)} - {"event", "vault", "data", "cursor"}


def _encode(event: Event) -> bytes:
    keys = {"user": event.user, "vault": event.vault, "group": event.group, "id": event.id}
    head = {"event": event.name.value} | {key: value for key, value in keys.items() if value is not None}
    return b'%b,"data":%b}' % (json.dumps(head).encode()[:-1], event.data)
