"""A user's stream in the simulated Redis, and who is told what becomes of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from attrs import Factory, define, evolve

from localful_ws.engine.redis.feeds import BEGINNING, Id

if TYPE_CHECKING:
    from .nodes import SimulatedNode
    from .redis_link import SimulatedLink

Place = tuple[str, str, Id]
"""A user, an epoch of the user's stream, and where in it."""


class Witness(Protocol):
    """Who is told what becomes of events."""

    def node_of(self, index: int) -> "SimulatedNode | None":
        """Which node it is that connects."""

    def accepted(self, place: Place, stored: bytes) -> None:
        """An event has its place."""

    def acknowledged(self, node: "SimulatedNode | None", places: Sequence[Place]) -> None:
        """A node has heard that its events have their places."""

    def lost(self, user: str, epoch: str, after: Id) -> None:
        """What came after this is gone."""

    def restored(self, place: Place, stored: bytes) -> None:
        """What was gone is there again."""

    def opened(self, link: "SimulatedLink") -> None:
        """A node has connected."""

    def served(self, link: "SimulatedLink") -> None:
        """A node has given what it had to give, and goes on."""


@define(eq=False)
class Stream:
    """A user's stream and head."""

    epoch: str = ""
    last: Id = BEGINNING
    entries: list[tuple[Id, Id, bytes]] = Factory(list)
    lasts_until: float = 0.0

    def copy(self) -> "Stream":
        """The same, to be changed."""
        return evolve(self, entries=list(self.entries))

    def trim(self, events: int, oldest: int) -> None:
        """Keep so many events, none of them older than that millisecond."""
        self.entries = [entry for entry in self.entries if entry[0][0] >= oldest][-events:] if events else []

    def was_taken(self, place: Id, *, keeps: bool) -> bool:
        """Whether what is not after the end is there, or was and is not kept any more."""
        if not keeps or any(entry[0] == place for entry in self.entries):
            return True
        return bool(self.entries) and self.entries[0][1] >= place


def user_of(key: str) -> str:
    """Whose key it is."""
    return key.partition("{@")[2].partition("}")[0]


def text_of(place: Id) -> str:
    """An id as Redis writes it, as text."""
    return f"{place[0]}-{place[1]}"


def written(place: Id) -> bytes:
    """An id as Redis writes it."""
    return text_of(place).encode()
