"""What can be asked of a daemon. Each worker answers for itself, and their answers are made one here.

Questions and answers are values, which workers and their parent send each other. Every answer is bounded.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import msgspec

MOST_USERS: Final = 1000
"""Users in an answer."""

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
        limit: At most so many, up to `MOST_USERS`.
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
    """Counts and gauges.

    Attributes:
        text: In Prometheus's text format.
    """

    text: bytes


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
        waiting_events: Frames in its outbox.
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

Ask = Callable[[Question], Awaitable[Answer | None]]
"""Has a question answered for the whole daemon; None if the answer can't be had."""


def merge_users(answers: Iterable[UsersAnswer], question: UsersQuestion) -> UsersAnswer:
    """Make one answer of those of several workers. A user may have devices at more than one."""
    connections: dict[str, int] = {}
    more = False
    for answer in answers:
        more = more or answer.more
        for count in answer.users:
            connections[count.user] = connections.get(count.user, 0) + count.connections
    # A worker leaves out only what comes after as many users as are asked for.
    first = [UserCount(user, connections[user]) for user in sorted(connections)[: question.limit]]
    return UsersAnswer(first, more or len(connections) > question.limit)


def merge_devices(answers: Sequence[DevicesAnswer]) -> DevicesAnswer:
    """Make one answer of those of several workers."""
    devices = sorted(
        (device for answer in answers for device in answer.devices), key=lambda device: device.connected_at
    )
    return DevicesAnswer(list(within_bounds(devices)), sum(answer.total for answer in answers))


def within_bounds(devices: Iterable[DeviceView]) -> Iterable[DeviceView]:
    """As many devices as an answer may hold, without the vaults that are too many for it."""
    left = MOST_VAULTS
    for device in islice(devices, MOST_DEVICES):
        kept = device
        if len(device.vaults) > left:
            kept = msgspec.structs.replace(device, vaults=device.vaults[:left])
        left -= len(kept.vaults)
        yield kept
