"""What goes wrong when: a plan of faults, made of a seed alone."""

from collections.abc import Iterator
from enum import Enum
from random import Random

from attrs import frozen

NODES = ("a", "b")


class Kind(Enum):
    """What goes wrong."""

    KILL_NODE = "kill-node"
    """SIGKILL; started again on the same ports after a while."""

    PAUSE_NODE = "pause-node"
    """SIGSTOP, and SIGCONT after a while."""

    STALL_NODE = "stall-node"
    """A pause in which Redis drops its subscribers: what is published meanwhile the node never hears of."""

    KILL_REDIS = "kill-redis"
    """SIGKILL; started again with its append-only file after a while."""

    PAUSE_REDIS = "pause-redis"
    """SIGSTOP, and SIGCONT after a while."""

    DROP_SUBSCRIBERS = "drop-subscribers"
    """``CLIENT KILL TYPE pubsub``."""

    DROP_COMMANDS = "drop-commands"
    """``CLIENT KILL TYPE normal``: also of commands under way, whose outcome nobody learns."""

    RESET_DEVICES = "reset-devices"
    """Some devices reset their connections, and come back at once."""

    DEVICES_AWAY = "devices-away"
    """Some devices reset their connections, and come back after a while."""


class Trouble(Enum):
    """What goes wrong, or is done on purpose, with Redis in production."""

    SENTINEL_FAILOVER = "sentinel-failover"
    """``SENTINEL FAILOVER``: a replica becomes the master, though nothing is wrong."""

    KILL_MASTER = "kill-master"
    """SIGKILL; started again after a while, as what it was."""

    STALL_MASTER = "stall-master"
    """SIGSTOP, and SIGCONT after a while, when there is another master."""

    MOVE_SLOT = "move-slot"
    """A user's slot is moved to another master of a Cluster, with all keys in it."""

    CLUSTER_FAILOVER = "cluster-failover"
    """``CLUSTER FAILOVER``: a replica changes places with its master, though nothing is wrong."""

    OUT_OF_MEMORY = "out-of-memory"
    """Writes are refused with OOM."""

    NO_REPLICAS = "no-replicas"
    """Writes are refused with NOREPLICAS."""

    READ_ONLY = "read-only"
    """Writes are refused with READONLY: it is told that it is a replica."""

    NO_PERMISSION = "no-permission"
    """Writes are refused with NOPERM."""


@frozen
class Fault:
    """One fault.

    Attributes:
        at: When it begins, in seconds.
        kind: What it is.
        seconds: How long it lasts; 0 if it is over at once.
        node: The node it befalls, if one.
        devices: The numbers of the devices it befalls.
        size: Of the end of its file that Redis loses, in bytes, in the mode in which it does.
        user: The user whose slot, or all of whose devices it befalls, if one.
        place: Which master it befalls, or how many masters further a slot is moved; 0 moves it back.
        behind: For so many seconds before, nothing reaches the replicas of the master that it befalls.
    """

    at: float
    kind: Kind | Trouble
    seconds: float = 0.0
    node: str | None = None
    devices: tuple[int, ...] = ()
    size: int = 0
    user: str | None = None
    place: int = 0
    behind: float = 0.0

    @property
    def target(self) -> str:
        """What cannot have another fault at the same time."""
        if self.kind in (Kind.KILL_REDIS, Kind.PAUSE_REDIS):
            return "redis"
        return self.node or self.kind.value

    def __str__(self) -> str:
        what = self.node or self.user or (f"{len(self.devices)} devices" if self.devices else "")
        what += f" {self.place}" if self.place > 0 else ""
        lasts = f" for {self.seconds:.2f} s" if self.seconds else ""
        behind = f", the replicas {self.behind:.2f} s behind" if self.behind else ""
        return f"{self.at:6.2f}  {self.kind.value:17} {what}{lasts}{behind}"


# How long each lasts, from and to. What has no entry is over at once.
_SECONDS = {
    Kind.KILL_NODE: (0.1, 1.5),
    Kind.PAUSE_NODE: (0.5, 1.5),
    Kind.STALL_NODE: (1.0, 3.0),
    Kind.KILL_REDIS: (0.1, 2.0),
    Kind.PAUSE_REDIS: (0.2, 2.5),
    Kind.DEVICES_AWAY: (1.0, 4.0),
}
_OF_A_NODE = (Kind.KILL_NODE, Kind.PAUSE_NODE, Kind.STALL_NODE)
_OF_DEVICES = (Kind.RESET_DEVICES, Kind.DEVICES_AWAY)
# Faults are drawn without putting back until there are none left: each kind comes, even in a short run.
_BAG = (*Kind, Kind.KILL_NODE, Kind.KILL_REDIS)
_LOST_AT_MOST = 20_000
_FIRST = 0.5
_PAUSE = (0.1, 0.7)


def make_plan(seed: int, seconds: float, devices: int) -> list[Fault]:
    """Make the plan of a seed: the same arguments give the same plan.

    Args:
        seed: Any number.
        seconds: All faults are over by then.
        devices: How many devices there are.
    """
    random = Random(seed)
    kinds = _kinds(random)
    free_from: dict[str, float] = {}
    plan: list[Fault] = []
    at = _FIRST
    while at < seconds:
        fault = _draw(random, next(kinds), round(at, 2), devices)
        if free_from.get(fault.target, 0.0) <= fault.at and fault.at + fault.seconds <= seconds:
            plan.append(fault)
            # It takes a moment until what was started again is there.
            free_from[fault.target] = fault.at + fault.seconds + 1.0
        at += random.uniform(*_PAUSE)
    return plan


def _kinds(random: Random) -> Iterator[Kind]:
    while True:
        yield from random.sample(_BAG, len(_BAG))


def _draw(random: Random, kind: Kind, at: float, devices: int) -> Fault:
    return Fault(
        at,
        kind,
        seconds=round(random.uniform(*_SECONDS[kind]), 2) if kind in _SECONDS else 0.0,
        node=random.choice(NODES) if kind in _OF_A_NODE else None,
        devices=tuple(sorted(random.sample(range(devices), random.randint(1, max(1, devices // 2)))))
        if kind in _OF_DEVICES
        else (),
        size=random.randint(0, _LOST_AT_MOST) if kind is Kind.KILL_REDIS else 0,
    )
