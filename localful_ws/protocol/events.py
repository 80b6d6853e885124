"""The eleven events, what kind each is, and how one is written for a device (spec/protocol.md, "Events")."""

import json
from enum import Enum
from typing import Self

from attrs import field, frozen

_encode_json = json.JSONEncoder(ensure_ascii=False).encode
_BEFORE_DATA = b',"data":'
_AFTER_DATA = b',"cursor":""}'


class EventKind(Enum):
    """Who an event is for."""

    USER = "user"
    """Every device of the user."""

    VAULT = "vault"
    """Every device of the user; it names the vault it is about."""

    DATA = "data"
    """The user's devices that subscribed to the vault it names."""


class EventName(Enum):
    """What changed. ``kind`` says whom it concerns, ``opening`` is how the event's JSON text begins."""

    kind: EventKind
    opening: bytes

    def __new__(cls, name: str, kind: EventKind) -> Self:
        """Make a member whose value is the name on the wire."""
        member = object.__new__(cls)
        member._value_ = name
        member.kind = kind
        member.opening = b'{"event":"%b"' % name.encode()
        return member

    # Enum's own hash is written in Python, and the names of events are looked up for every one of them.
    __hash__ = object.__hash__

    USER_UPDATE = "user-update", EventKind.USER
    USER_PASSWORD_CHANGE = "user-password-change", EventKind.USER
    USER_EMAIL_CHANGE = "user-email-change", EventKind.USER
    USER_DELETE = "user-delete", EventKind.USER
    VAULT_CREATE = "vault-create", EventKind.VAULT
    VAULT_UPDATE = "vault-update", EventKind.VAULT
    VAULT_DELETE = "vault-delete", EventKind.VAULT
    ITEM_CREATE = "item-create", EventKind.DATA
    ITEM_DELETE = "item-delete", EventKind.DATA
    VERSION_CREATE = "version-create", EventKind.DATA
    VERSION_DELETE = "version-delete", EventKind.DATA


@frozen
class Event:
    """One change that a publisher told of.

    Attributes:
        name: What happened.
        user: The user whose devices may hear of it.
        vault: The vault it happened in; present exactly for vault and data events.
        group: The origin group: the token group that made the change and is not told of it.
        data: What the publisher gave, as JSON text in UTF-8; it is passed on untouched.
        id: The publisher's own name for it: the same user and id is delivered once.
        content_of: The vault that a device must subscribe to in order to get it; None if it need not.
    """

    name: EventName
    user: str
    vault: str | None = None
    group: str | None = None
    data: bytes = field(default=b"null", repr=False)
    id: str | None = None
    content_of: str | None = field(init=False, repr=False, eq=False)

    @content_of.default
    def _content_of(self) -> str | None:
        return self.vault if self.name.kind is EventKind.DATA else None

    def __attrs_post_init__(self) -> None:
        """Refuse an event that cannot be.

        Raises:
            ValueError: If a user event names a vault, or another kind names none.
        """
        if self.name.kind is EventKind.USER:
            if self.vault is not None:
                raise ValueError(f"{self.name.value} is a user event and names no vault.")
        elif self.vault is None:
            raise ValueError(f"{self.name.value} needs the vault it is about.")


def encode_event(event: Event, cursor: str) -> bytes:
    """Write an event as the JSON text, in UTF-8, that every device receives.

    Args:
        event: The event; its ``data`` goes in byte for byte, its user and origin group do not go in at all.
        cursor: Its position, in characters that JSON need not escape.

    Returns:
        One JSON object: ``event``, ``vault`` where there is one, ``data`` and ``cursor``.
    """
    if event.vault is None:
        return b'%b,"data":%b,"cursor":"%b"}' % (event.name.opening, event.data, cursor.encode())
    return b'%b,"vault":%b,"data":%b,"cursor":"%b"}' % (
        event.name.opening,
        _encode_json(event.vault).encode(),
        event.data,
        cursor.encode(),
    )


def data_in(text: bytes, cursor: str) -> bytes:
    """The ``data`` in what `encode_event` wrote, with or without a frame around it.

    Args:
        text: What it wrote.
        cursor: The cursor that it was given.
    """
    # Within a string there is no quote without a backslash before it: the first of these is the key.
    begin = text.index(_BEFORE_DATA) + len(_BEFORE_DATA)
    return text[begin : len(text) - len(_AFTER_DATA) - len(cursor)]
