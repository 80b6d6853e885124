"""What things are called in Redis, and how a cursor is written."""

import re
import secrets
from binascii import crc_hqx
from typing import Final

from attrs import field, frozen

from localful_ws.engine.redis.feeds import Id

SLOTS: Final = 16384
"""So many slots a Cluster spreads its keys over."""

_CURSOR: Final = re.compile(r"([a-z0-9]{1,32})\.(\d{1,16})-(\d{1,16})", re.ASCII)


@frozen
class Keys:
    """The names of keys and channels.

    Whatever a user's id is, it makes none of the other names: between braces, where a Cluster looks for what
    keeps names together, a user's begin with ``@``. No prefix has that mark, and no prefix has braces.

    Attributes:
        prefix: What all begin with.
        revoked: The revocations.
        lapses: When they lapse.
        control: The channel on which all nodes hear orders.
        questions: The channel on which all nodes hear questions.
        intake: What is published without HTTP.
        rejected: What was refused of that.
        lease: Who reads the intake; in a Cluster on the same server as that.
    """

    prefix: str
    revoked: str = field(init=False)
    lapses: str = field(init=False)
    control: str = field(init=False)
    questions: str = field(init=False)
    intake: str = field(init=False)
    rejected: str = field(init=False)
    lease: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Write those that don't depend on a user."""
        for name, value in (
            ("revoked", f"{self.prefix}:{{control}}:revoked"),
            ("lapses", f"{self.prefix}:{{control}}:lapses"),
            ("control", f"{self.prefix}:{{control}}:live"),
            ("questions", f"{self.prefix}:{{control}}:questions"),
            ("intake", f"{self.prefix}:intake"),
            ("rejected", f"{self.prefix}:intake:rejected"),
            ("lease", f"{self.prefix}:{{{self.prefix}:intake}}:reader"),
        ):
            object.__setattr__(self, name, value)

    def of_user(self, user: str, what: str) -> str:
        """A key of a user, as ``events`` or ``id:…``. All of them are in one hash slot."""
        safe = user.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        return f"{self.prefix}:{{@{safe}}}:{what}"

    def of_probe(self, number: int, what: str) -> str:
        """A key like a user's, and of none: what a user's has after a ``%`` is always two digits."""
        return f"{self.prefix}:{{@%{number}%}}:{what}"

    def of_node(self, node: str) -> str:
        """The channel on which a node hears answers."""
        return f"{self.prefix}:{{control}}:node:{node}"


def hash_slot(name: bytes) -> int:
    """The slot of a Cluster that a key or shard channel is in."""
    opening = name.find(b"{")
    closing = name.find(b"}", opening + 1)
    if opening >= 0 and closing > opening + 1:
        name = name[opening + 1 : closing]
    return crc_hqx(name, 0) % SLOTS


def write_cursor(epoch: str, place: Id) -> str:
    """The cursor of a position."""
    return f"{epoch}.{place[0]}-{place[1]}"


def read_cursor(cursor: str) -> tuple[str, Id] | None:
    """The epoch and id of a cursor; None if it is none of ours."""
    match = _CURSOR.fullmatch(cursor)
    return None if match is None else (match[1], (int(match[2]), int(match[3])))


def read_id(text: str) -> Id:
    """The id that Redis writes like this."""
    ms, _, sequence = text.partition("-")
    return int(ms), int(sequence)


def new_epoch() -> str:
    """An epoch for a stream that is begun."""
    return secrets.token_hex(8)
