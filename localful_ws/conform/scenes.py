"""The scenes of spec/transcripts: read from their files, as they are written there."""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen


class Sort(Enum):
    """What kind of thing a step is."""

    DEED = "deed"
    """Somebody does something."""
    REQUEST = "request"
    """The publisher asks, and is answered."""
    SIGHT = "sight"
    """A device sees something."""
    EVENT = "event"
    """Something happens to the server."""


ACTIONS: Final = {
    "opens": Sort.DEED,
    "connects": Sort.DEED,
    "sends": Sort.DEED,
    "sends-text": Sort.DEED,
    "sends-binary": Sort.DEED,
    "sends-bytes": Sort.DEED,
    "pings": Sort.DEED,
    "closes": Sort.DEED,
    "breaks": Sort.DEED,
    "stops-reading": Sort.DEED,
    "reads-again": Sort.DEED,
    "ignores-pings": Sort.DEED,
    "ignores-close": Sort.DEED,
    "receives": Sort.SIGHT,
    "receives-some": Sort.SIGHT,
    "ponged": Sort.SIGHT,
    "pinged": Sort.SIGHT,
    "refused": Sort.SIGHT,
    "closed": Sort.SIGHT,
    "dropped": Sort.SIGHT,
    "hears-nothing": Sort.SIGHT,
    "publishes": Sort.REQUEST,
    "disconnects": Sort.REQUEST,
    "requests": Sort.REQUEST,
    "happens": Sort.EVENT,
}
"""Every action of a step, and its sort."""


@frozen
class Step:
    """One step of a scene.

    Attributes:
        at: When, in seconds since the scene began.
        who: Who does or sees it: a device by any name, ``api`` or ``server``.
        action: What: one of `ACTIONS`.
        value: More about it, as it is written.
        answer: What a request is answered with; None if it need only be accepted.
        because: Why, in words; empty if that is plain.
    """

    at: float
    who: str
    action: str
    value: Any
    answer: dict[str, Any] | None = None
    because: str = ""

    @property
    def sort(self) -> Sort:
        """What kind of thing it is."""
        return ACTIONS[self.action]


@frozen
class Scene:
    """A scene.

    Attributes:
        name: Its name, which no other has.
        title: A few words, and ``story``: a sentence or two.
        about: The rows of spec/protocol.md that it shows, the one it is there for first: the anchor of a
            section, and after a slash the row of a table or list there.
        given: The settings it needs, where they are not the default ones.
        steps: What happens, in order.
        file: The file it is in, without its ending.
    """

    name: str
    title: str
    story: str
    about: Sequence[str]
    given: Mapping[str, Any]
    steps: Sequence[Step]
    file: str = field(eq=False)

    @property
    def section(self) -> str:
        """The anchor of the section that a server violates if the scene goes otherwise."""
        return self.about[0].partition("/")[0]

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.steps[-1].at

    @property
    def actions(self) -> frozenset[str]:
        """The actions of its steps."""
        return frozenset(step.action for step in self.steps)

    @property
    def wants(self) -> frozenset[str]:
        """What has to happen to the server, for which no device or publisher can ask."""
        return frozenset(step.value for step in self.steps if step.sort is Sort.EVENT)

    @property
    def is_alone(self) -> bool:
        """Whether nobody else may use the server meanwhile: it stops it, or fills what all share."""
        return bool(self.wants) or not {"max-connections", "max-revocations"}.isdisjoint(self.given)


def folder() -> Traversable:
    """Where the files are: beside this module if it was installed, else in the checkout."""
    installed = files("localful_ws.conform") / "transcripts"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "spec" / "transcripts"


def read_scenes() -> list[Scene]:
    """All scenes, in the order of their files and in them."""
    return [
        scene
        for file in sorted(folder().iterdir(), key=lambda file: file.name)
        if file.name.endswith(".json") and file.name != "schema.json"
        for scene in parse_file(file.read_text(encoding="utf-8"), file.name.removesuffix(".json"))
    ]


def parse_file(text: str, file: str) -> Iterator[Scene]:
    """Read the scenes of a file that fits the schema.

    Args:
        text: What is in it.
        file: Its name, without its ending.
    """
    for scene in json.loads(text)["scenes"]:
        yield Scene(
            name=scene["name"],
            title=scene["title"],
            story=scene["story"],
            about=scene["about"],
            given=scene.get("given", {}),
            steps=[_parse_step(step) for step in scene["steps"] for _ in range(step.get("times", 1))],
            file=file,
        )


def is_word(written: Any) -> bool:
    """Whether a value stands for another: an object whose only key begins with ``$``."""
    return isinstance(written, dict) and len(written) == 1 and next(iter(written)).startswith("$")


def _parse_step(step: Mapping[str, Any]) -> Step:
    (action,) = ACTIONS.keys() & step.keys()
    return Step(step["at"], step["who"], action, step[action], step.get("answer"), step.get("because", ""))
