"""What was accepted, in which order: what every device is held to."""

from bisect import bisect_right
from typing import Any

from attrs import define, field, frozen

from localful_ws.protocol import Event, EventKind, EventName

Place = tuple[int, int]
BEGINNING: Place = (0, 0)


@frozen
class Fact:
    """An event in its user's stream.

    Attributes:
        place: Where, in the order of the stream.
        number: The number in its data, which no other event has.
        name: What happened.
        vault: The vault it names.
        group: The origin group.
        content: Whether it is for those who subscribe to its vault only.
        at: When it took its place, on Trio's clock.
        size: Bytes of its frame; with Redis, of its data.
    """

    place: Place
    number: int
    name: EventName
    vault: str | None
    group: str | None
    content: bool
    at: float
    size: int

    def is_for(self, group: str, vaults: frozenset[str]) -> bool:
        """Whether a device of this token group with this subscription is told of it."""
        return self.group != group and (not self.content or self.vault in vaults)


@define(eq=False)
class Line:
    """A user's stream, in one epoch of it.

    Attributes:
        facts: What is in it.
        places: Their places.
        gone: Those that Redis has lost, with the moments at which it did, on Trio's clock.
    """

    facts: list[Fact] = field(factory=list)
    places: list[Place] = field(factory=list)
    by_number: dict[int, int] = field(factory=dict)
    gone: dict[Place, float] = field(factory=dict)

    def there(self) -> list[Fact]:
        """The facts that are not gone."""
        return [fact for fact in self.facts if fact.place not in self.gone] if self.gone else self.facts

    def passed(self, place: Place) -> int:
        """How many facts lie up to a place."""
        return bisect_right(self.places, place)


@define(eq=False)
class Truth:
    """All streams.

    Attributes:
        lines: By user and epoch.
        users: Whose event a number is.
        twice: Numbers that were accepted more than once.
    """

    lines: dict[tuple[str, str], Line] = field(factory=dict)
    users: dict[int, str] = field(factory=dict)
    count: int = 0

    def line(self, user: str, epoch: str) -> Line:
        """A user's stream."""
        line = self.lines.get((user, epoch))
        if line is None:
            line = self.lines[user, epoch] = Line()
        return line

    def accept(self, event: Event, epoch: str, place: Place, number: int, at: float, size: int) -> None:
        """Take note that an event has its place."""
        line = self.line(event.user, epoch)
        fact = Fact(
            place, number, event.name, event.vault, event.group,
            event.name.kind is EventKind.DATA, at, size,
        )  # fmt: skip
        line.by_number[number] = len(line.facts)
        line.facts.append(fact)
        line.places.append(place)
        self.users[number] = event.user
        self.count += 1

    def lose(self, user: str, epoch: str, after: Place, at: float) -> list[Fact]:
        """Take note that Redis has lost what came after a place; what that was."""
        line = self.line(user, epoch)
        lost = [fact for fact in line.facts[line.passed(after) :] if fact.place not in line.gone]
        line.gone |= {fact.place: at for fact in lost}
        return lost

    def give_back(self, user: str, epoch: str, place: Place, number: int) -> bool:
        """Take note that what was lost is there again; whether it is what was there."""
        line = self.line(user, epoch)
        line.gone.pop(place, None)
        index = line.passed(place) - 1
        return index >= 0 and (line.facts[index].place, line.facts[index].number) == (place, number)


def read_place(cursor: str) -> tuple[str, Place]:
    """The epoch and place of a cursor, of either engine."""
    epoch, _, rest = cursor.rpartition(".")
    first, _, second = rest.partition("-")
    return epoch, (int(first), int(second or 0))


def number_in(data: Any) -> int:
    """The number in an event's data."""
    number: int = data["n"]
    return number
