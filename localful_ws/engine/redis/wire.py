"""Events as they are kept in Redis and told to nodes: JSON, with ``data`` byte for byte."""

from typing import Any, Final, TypeVar

import msgspec

from localful_ws.engine import Entry, entry_of
from localful_ws.engine.redis.feeds import BEGINNING, Id, Live, Reading
from localful_ws.engine.redis.keys import read_id, write_cursor
from localful_ws.protocol import MAX_DEPTH, MESSAGE_DEPTH, Event, EventName, is_too_deep

T = TypeVar("T")

_NAMES: Final = {name.value: name for name in EventName}
UNREADABLE: Final = (msgspec.MsgspecError, KeyError, ValueError)
"""What reading raises: another version wrote it, or somebody else."""

_encode_json: Final = msgspec.json.Encoder().encode


class _StoredEvent(msgspec.Struct):
    event: str
    data: msgspec.Raw
    vault: str | None = None
    group: str | None = None


class _LiveMessage(msgspec.Struct):
    epoch: str
    prev: str
    events: list[tuple[str, _StoredEvent]]


# A message, in it a list of events, each of them a pair, in that the object with the data.
_LIVE_DEPTH: Final = MAX_DEPTH + 4
_live_decoder: Final = msgspec.json.Decoder(_LiveMessage)
_event_decoder: Final = msgspec.json.Decoder(_StoredEvent)


def encode_stored(event: Event) -> bytes:
    """Write an event as it is kept."""
    head: dict[str, str] = {"event": event.name.value}
    if event.vault is not None:
        head["vault"] = event.vault
    if event.group is not None:
        head["group"] = event.group
    return b'%b,"data":%b}' % (_encode_json(head)[:-1], event.data)


def decode_live(user: str, data: bytes) -> Live:
    """Read a message of a user's channel.

    Raises:
        msgspec.MsgspecError, KeyError, ValueError: If it can't be read; see `UNREADABLE`.
    """
    message = _decode(_live_decoder, data, _LIVE_DEPTH)
    entries = [_entry(user, message.epoch, read_id(id_), stored) for id_, stored in message.events]
    return Live(message.epoch, read_id(message.prev), entries)


def decode_reading(user: str, reply: Any) -> Reading:
    """Read what the script ``read`` returned. Events that can't be read count as missing."""
    epoch, last, more, flat = reply
    epoch_text, last_id = epoch.decode(), read_id(last.decode())
    try:
        entries = [
            _entry(
                user,
                epoch_text,
                read_id(flat[index].decode()),
                _decode(_event_decoder, flat[index + 2], MESSAGE_DEPTH),
            )
            for index in range(0, len(flat), 3)
        ]
        before = read_id(flat[1].decode()) if flat else BEGINNING
    except UNREADABLE:
        return Reading(epoch_text, last_id, more=False, before=BEGINNING, entries=())
    return Reading(epoch_text, last_id, bool(more), before, entries)


def _decode(decoder: msgspec.json.Decoder[T], text: bytes, depth: int) -> T:
    if is_too_deep(text, depth):
        raise ValueError("nested more deeply than any event")
    return decoder.decode(text)


def _entry(user: str, epoch: str, id_: Id, stored: _StoredEvent) -> tuple[Id, Entry]:
    event = Event(_NAMES[stored.event], user, stored.vault, stored.group, bytes(stored.data))
    return id_, entry_of(event, write_cursor(epoch, id_))
