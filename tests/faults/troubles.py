"""What goes wrong in each deployment of Redis in production, and when: plans made of a seed alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random

from .plan import Fault, Kind, Trouble

MASTERS = 3
"""Of a Cluster."""
ANY_MASTER = -1
# Devices reset their connections all the while.
_RESETS = (0.2, 0.6)
_AT_ONCE = 10
_AWAY = (0.5, 2.5)
_FAILOVERS = (3.5, 5.5)
# Long enough for another master to be chosen meanwhile.
_MASTER_GONE = (4.0, 6.0)
_CRASHES = (7.5, 8.5)
# So much of what is accepted is lost with the master: the first that crashes always takes some of it along.
_BEHIND = (0.2, 0.6)
# All devices of a user go so long before that, and come back so long after.
_BEFORE = 0.2
_QUIET = (0.5, 3.5)
_MOVES = (0.2, 0.5)
# How long the keys of a slot are in two places.
_HALF_MOVED = (0.0, 0.4)
_MOVED_USERS = 5
_SPELL = (1.0, 2.0)
LONG_SPELL = 4.5
"""One spell is so long that the nodes must have noticed."""
BETWEEN_SPELLS = 3.0
_REFUSALS = (Trouble.OUT_OF_MEMORY, Trouble.NO_REPLICAS, Trouble.READ_ONLY, Trouble.NO_PERMISSION)


def make_troubles(
    deployment: str, seed: int, seconds: float, devices: int, users: Mapping[str, int]
) -> list[Fault]:
    """Make the plan of a seed: the same arguments give the same plan.

    Args:
        deployment: Its name.
        seed: Any number.
        seconds: No fault begins later. One of each is in the plan in any case.
        devices: How many devices there are.
        users: The users, in the order in which devices have them, and on which master of a Cluster each is.
    """
    random = Random(f"{seed} {deployment}")
    plan = list(PLANS[deployment](random, seconds, users))
    quiet = [_quiet(random, fault, devices, users) for fault in plan if fault.behind]
    at = random.uniform(*_RESETS)
    while at < seconds:
        kind = random.choice((Kind.RESET_DEVICES, Kind.RESET_DEVICES, Kind.DEVICES_AWAY))
        away = round(random.uniform(*_AWAY), 2) if kind is Kind.DEVICES_AWAY else 0.0
        some = set(random.sample(range(devices), random.randint(1, _AT_ONCE)))
        for fault in quiet:
            if at - _AWAY[1] < fault.at + fault.seconds and fault.at < at + _AWAY[1]:
                some -= set(fault.devices)
        if some:
            plan.append(Fault(round(at, 2), kind, away, devices=tuple(sorted(some))))
        at += random.uniform(*_RESETS)
    return sorted([*plan, *quiet], key=lambda fault: fault.at)


def _quiet(random: Random, crash: Fault, devices: int, users: Mapping[str, int]) -> Fault:
    """All devices of a user are away when what is accepted will be lost, so that no node hears of it."""
    user = random.choice([user for user in users if crash.place in (ANY_MASTER, users[user])])
    away = crash.behind + _BEFORE + random.uniform(*_QUIET)
    some = tuple(range(list(users).index(user), devices, len(users)))
    return Fault(round(crash.at - _BEFORE, 2), Kind.DEVICES_AWAY, round(away, 2), devices=some, user=user)


def quiet_users(plan: Iterable[Fault]) -> frozenset[str]:
    """The users all of whose devices are away at once."""
    return _users_of(plan, Kind.DEVICES_AWAY)


def moved_users(plan: Iterable[Fault]) -> frozenset[str]:
    """The users whose slots a plan moves."""
    return _users_of(plan, Trouble.MOVE_SLOT)


def _users_of(plan: Iterable[Fault], kind: Kind | Trouble) -> frozenset[str]:
    return frozenset(fault.user for fault in plan if fault.kind is kind and fault.user is not None)


def _sentinel_planned(random: Random, seconds: float, users: Mapping[str, int]) -> Iterator[Fault]:
    at = 2.0
    while at < seconds:
        yield Fault(round(at, 2), Trouble.SENTINEL_FAILOVER)
        at += random.uniform(*_FAILOVERS)


def _sentinel_crash(random: Random, seconds: float, users: Mapping[str, int]) -> Iterator[Fault]:
    kinds = random.sample((Trouble.KILL_MASTER, Trouble.STALL_MASTER), 2)
    at = random.uniform(1.5, 2.5)
    for number, kind in enumerate(kinds):
        if number == 0 or at < seconds:
            gone, behind = (round(random.uniform(*each), 2) for each in (_MASTER_GONE, _BEHIND))
            yield Fault(round(at, 2), kind, gone, place=ANY_MASTER, behind=0.0 if number else behind)
        at += random.uniform(*_CRASHES)


def _cluster_slots(random: Random, seconds: float, users: Mapping[str, int]) -> Iterator[Fault]:
    moved = random.sample(sorted(users), _MOVED_USERS)
    at = 1.0
    while at < seconds:
        yield Fault(
            round(at, 2),
            Trouble.MOVE_SLOT,
            round(random.uniform(*_HALF_MOVED), 2),
            user=random.choice(moved),
            place=random.choice((0, *range(1, MASTERS))),
        )
        at += random.uniform(*_MOVES)


def _cluster_failover(random: Random, seconds: float, users: Mapping[str, int]) -> Iterator[Fault]:
    crashed, planned = random.sample(range(MASTERS), 2)
    gone, behind = (round(random.uniform(*each), 2) for each in (_MASTER_GONE, _BEHIND))
    times = [random.uniform(1.5, 2.5), random.uniform(9.5, 10.5)]
    yield Fault(round(times[0], 2), Trouble.KILL_MASTER, gone, place=crashed, behind=behind)
    yield Fault(round(times[1], 2), Trouble.CLUSTER_FAILOVER, place=planned)


def _refused_writes(random: Random, seconds: float, users: Mapping[str, int]) -> Iterator[Fault]:
    kinds = random.sample(_REFUSALS, len(_REFUSALS))
    long = random.randrange(len(kinds))
    at = 1.5
    for number, kind in enumerate(kinds):
        lasts = LONG_SPELL if number == long else round(random.uniform(*_SPELL), 2)
        yield Fault(round(at, 2), kind, lasts)
        at += lasts + BETWEEN_SPELLS


PLANS: Mapping[str, Callable[[Random, float, Mapping[str, int]], Iterator[Fault]]] = {
    "sentinel-planned": _sentinel_planned,
    "sentinel-crash": _sentinel_crash,
    "cluster-slots": _cluster_slots,
    "cluster-failover": _cluster_failover,
    "refused-writes": _refused_writes,
}
