"""What can be asked of a daemon, and how workers and their parent say it to each other.

Every answer is bounded.
"""

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

import msgspec

from localful_ws.metrics import Family

MOST_USERS: Final = 1000
"""Users that may be asked for at a time."""

MOST_DEVICES: Final = 10_000
"""Devices in an answer."""

MOST_VAULTS: Final = 10_000
"""Vaults in an answer, of all its devices together."""


class MetricsQuestion(msgspec.Struct, frozen=True, tag="metrics"):
    """What has been counted?"""


class UsersQuestion(msgspec.Struct, frozen=True, tag="users"):
    """Which users have a device here?

    Attributes:
        after: Only users whose id comes after this one.
        prefix: Only users whose id begins so.
        limit: At most so many, from 1 to `MOST_USERS`.
    """

    after: str = ""
    prefix: str = ""
    limit: int = 100


class DevicesQuestion(msgspec.Struct, frozen=True, tag="devices"):
    """Which devices does this user have here?

    Attributes:
        user: The user.
        group: Only devices of this token group.
        vaults: At most so many vaults of each subscription are named.
    """

    user: str
    group: str | None = None
    vaults: int = 20


class MetricsAnswer(msgspec.Struct, frozen=True, tag="metrics"):
    """Counts and gauges."""

    families: list[Family]


class UserCount(msgspec.Struct, frozen=True):
    """A user, and how many connections they have."""

    user: str
    connections: int


class UsersAnswer(msgspec.Struct, frozen=True, tag="users"):
    """Users in the order of their ids, by code point.

    Attributes:
        users: The first of them.
        more: Whether there are more.
    """

    users: list[UserCount]
    more: bool


class DeviceView(msgspec.Struct, frozen=True, rename="camel"):
    """One authenticated device. Times are Unix seconds.

    Attributes:
        group: Its token group.
        state: Where its connection is in its life.
        connected_at: When it opened its connection.
        issued_at: When its token was issued, if that says so.
        expires_at: When its session ends, unless it is renewed.
        subscribed: How many vaults it is subscribed to.
        vaults: The first of them.
        waiting_events: Frames in its send buffer.
        waiting_bytes: Their size.
    """

    group: str
    state: str
    connected_at: float
    issued_at: float | None
    expires_at: float
    subscribed: int
    vaults: list[str]
    waiting_events: int
    waiting_bytes: int


class DevicesAnswer(msgspec.Struct, frozen=True, tag="devices"):
    """A user's devices, in the order in which they came.

    Attributes:
        devices: The first of them.
        total: How many there are.
    """

    devices: list[DeviceView]
    total: int


Question = MetricsQuestion | UsersQuestion | DevicesQuestion
Answer = MetricsAnswer | UsersAnswer | DevicesAnswer

Survey = Callable[[Question], Awaitable[Answer | None]]
"""Has a question answered for the whole daemon; None if the answer can't be had."""


class Ask(msgspec.Struct, frozen=True, tag=True):
    """To a worker: answer this for yourself. To the parent: have all answer it.

    Attributes:
        number: Numbers what one side asks the other, from 1.
        question: What is asked.
    """

    number: int
    question: Question


class Answered(msgspec.Struct, frozen=True, tag=True):
    """The answer to an `Ask`. Of a worker with number 0, the metrics as its last word.

    Attributes:
        number: As asked. The parent answers with it whatever of that question has a number up to this one.
        question: As asked.
        answer: The answer.
    """

    number: int
    question: Question
    answer: Answer


def within_bounds(devices: Iterable[DeviceView]) -> Iterable[DeviceView]:
    """As many devices as an answer may hold, without the vaults that are too many for it."""
    left = MOST_VAULTS
    for device in islice(devices, MOST_DEVICES):
        kept = device
        if len(device.vaults) > left:
            kept = msgspec.structs.replace(device, vaults=device.vaults[:left])
        left -= len(kept.vaults)
        yield kept
