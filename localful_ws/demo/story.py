"""What the demo plays: three devices of two users, the changes published, and who is to hear of each."""

from enum import Enum
from typing import Any

from attrs import frozen

from localful_ws.protocol import EventName


@frozen
class Actor:
    """A device of the demo.

    Attributes:
        name: What it is called on the screen.
        user: Whose it is.
        group: Its token group.
        vaults: The vaults it subscribes to.
    """

    name: str
    user: str
    group: str
    vaults: tuple[str, ...]


LAPTOP = Actor("Ada's laptop", "ada", "ada-laptop", ("notes", "photos"))
PHONE = Actor("Ada's phone", "ada", "ada-phone", ("notes",))
# "notes" is Ada's: nothing keeps Bob from asking for it, and it gets him nothing.
TABLET = Actor("Bob's tablet", "bob", "bob-tablet", ("plans", "notes"))
ACTORS = (LAPTOP, PHONE, TABLET)


class Fate(Enum):
    """What becomes of an event at one device."""

    RECEIVED = "received"
    OWN_CHANGE = "own change"
    NOT_SUBSCRIBED = "not subscribed"
    ANOTHER_USER = "another user"


@frozen
class Change:
    """An event that is published.

    Attributes:
        event: What happened.
        user: Whose content it happened to.
        fates: What is to become of it at each of `ACTORS`, in their order.
        origin: Whose change it is; None for a change of the server's own.
        vault: Where it happened.
        data: What the publisher says of it.
    """

    event: EventName
    user: str
    fates: tuple[Fate, Fate, Fate]
    origin: Actor | None = None
    vault: str | None = None
    data: Any = None

    def published(self) -> dict[str, Any]:
        """What the HTTP API publishes."""
        body: dict[str, Any] = {"event": self.event.value, "user": self.user}
        if self.vault is not None:
            body["vault"] = self.vault
        if self.origin is not None:
            body["group"] = self.origin.group
        return body | {"data": self.data}

    def delivered(self) -> dict[str, Any]:
        """What a device gets."""
        vault = {} if self.vault is None else {"vault": self.vault}
        return {"event": self.event.value, **vault, "data": self.data}


@frozen
class Scene:
    """Changes that belong together, under a title."""

    title: str
    changes: tuple[Change, ...]


_OWN, _RECEIVED, _UNSUBSCRIBED, _OTHER = (
    Fate.OWN_CHANGE,
    Fate.RECEIVED,
    Fate.NOT_SUBSCRIBED,
    Fate.ANOTHER_USER,
)


def _by_laptop(
    event: EventName, vault: str | None = None, data: Any = None, phone: Fate = Fate.RECEIVED
) -> Change:
    return Change(event, "ada", (_OWN, phone, _OTHER), LAPTOP, vault, data)


def _by_phone(event: EventName, vault: str, data: Any) -> Change:
    return Change(event, "ada", (_RECEIVED, _OWN, _OTHER), PHONE, vault, data)


def _of_bob(event: EventName, vault: str | None, data: Any) -> Change:
    return Change(event, "bob", (_OTHER, _OTHER, _RECEIVED), None, vault, data)


SCENES = (
    Scene(
        "By Ada's laptop",
        (
            _by_laptop(EventName.USER_UPDATE, data={"displayName": "Ada L."}),
            _by_laptop(EventName.USER_EMAIL_CHANGE, data={"email": "ada@example.org"}),
            _by_laptop(EventName.USER_PASSWORD_CHANGE),
            _by_laptop(EventName.VAULT_CREATE, "photos", {"name": "gq2W"}),
            _by_laptop(EventName.VAULT_UPDATE, "notes", {"name": "kX0b"}),
            _by_laptop(EventName.ITEM_CREATE, "notes", {"id": "i1"}),
            _by_laptop(EventName.VERSION_CREATE, "notes", {"id": "v1", "itemId": "i1"}),
            _by_laptop(EventName.VERSION_CREATE, "photos", {"id": "v2", "itemId": "i2"}, _UNSUBSCRIBED),
            _by_laptop(EventName.VERSION_DELETE, "notes", {"id": "v1", "itemId": "i1"}),
            _by_laptop(EventName.ITEM_DELETE, "notes", {"id": "i1"}),
            _by_laptop(EventName.VAULT_DELETE, "notes"),
        ),
    ),
    Scene("By Ada's phone", (_by_phone(EventName.ITEM_CREATE, "photos", {"id": "i3"}),)),
    Scene(
        "By the server itself, for Bob",
        (
            _of_bob(EventName.USER_UPDATE, None, {"displayName": "Bob"}),
            _of_bob(EventName.VAULT_CREATE, "plans", {"name": "Zm9v"}),
            _of_bob(EventName.ITEM_CREATE, "plans", {"id": "i4"}),
        ),
    ),
    Scene("By Ada's laptop, to end with", (_by_laptop(EventName.USER_DELETE),)),
)
"""The demo, in order. ``user-delete`` closes connections and so comes last."""

SAMPLE = SCENES[0].changes[5]
"""The change that is shown as it is on the wire."""


def changes() -> tuple[Change, ...]:
    """Every change of the demo, in order."""
    return tuple(change for scene in SCENES for change in scene.changes)
