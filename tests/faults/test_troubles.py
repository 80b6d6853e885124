"""The plans of deployments come from the seed alone, and have in them what the deployment is there for."""

from itertools import pairwise

import pytest

from .deployments import DEPLOYMENTS, masters_of
from .plan import Fault, Kind, Trouble
from .run import USERS
from .troubles import (
    ANY_MASTER,
    BETWEEN_SPELLS,
    LONG_SPELL,
    MASTERS,
    PLANS,
    make_troubles,
    moved_users,
    quiet_users,
)

WHERE = masters_of(USERS)
SECONDS = 12.0
SEEDS = range(20)


def plan(deployment: str, seed: int) -> list[Fault]:
    return make_troubles(deployment, seed, SECONDS, 50, WHERE)


def troubles(deployment: str, seed: int) -> list[Fault]:
    return [fault for fault in plan(deployment, seed) if isinstance(fault.kind, Trouble)]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_plan_comes_from_its_seed_alone(deployment: str) -> None:
    assert plan(deployment, 1) == plan(deployment, 1) != plan(deployment, 2)
    assert {Kind.RESET_DEVICES, Kind.DEVICES_AWAY} <= {fault.kind for fault in plan(deployment, 1)}


def test_each_deployment_has_plans() -> None:
    assert list(PLANS) == list(DEPLOYMENTS)


def test_every_master_has_users() -> None:
    assert set(WHERE.values()) == set(range(MASTERS))


@pytest.mark.parametrize("seed", SEEDS)
def test_several_planned_failovers(seed: int) -> None:
    kinds = [fault.kind for fault in troubles("sentinel-planned", seed)]
    assert len(kinds) >= 2
    assert set(kinds) == {Trouble.SENTINEL_FAILOVER}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_that_is_gone_and_replicas_that_are_behind(seed: int) -> None:
    first, *rest = troubles("sentinel-crash", seed)
    assert {first.kind, *(fault.kind for fault in rest)} <= {Trouble.KILL_MASTER, Trouble.STALL_MASTER}
    assert first.behind > 0
    crash, planned = troubles("cluster-failover", seed)
    assert (crash.kind, planned.kind) == (Trouble.KILL_MASTER, Trouble.CLUSTER_FAILOVER)
    assert crash.behind > 0
    assert crash.place != planned.place


@pytest.mark.parametrize("deployment", ["sentinel-crash", "cluster-failover"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_user_is_away_when_something_is_lost(deployment: str, seed: int) -> None:
    faults = plan(deployment, seed)
    (user,) = quiet_users(faults)
    crash = next(fault for fault in faults if fault.behind)
    assert crash.place in (ANY_MASTER, WHERE[user])
    theirs = {number for number in range(50) if USERS[number % len(USERS)] == user}
    (gone,) = [fault for fault in faults if set(fault.devices) == theirs]
    assert gone.at < crash.at
    assert gone.at + gone.seconds > crash.at + crash.behind
    # Nothing calls any of them back meanwhile.
    for other in faults:
        if other is not gone and theirs & set(other.devices):
            assert other.at + other.seconds <= gone.at or other.at >= gone.at + gone.seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_that_move_for_the_whole_run_and_back(seed: int) -> None:
    moves = troubles("cluster-slots", seed)
    assert moves[-1].at > SECONDS - 1
    assert 0 < len(moved_users(moves)) < len(USERS)
    assert {move.place for move in moves} == set(range(MASTERS))


@pytest.mark.parametrize("seed", SEEDS)
def test_each_refusal_once_and_one_of_them_long(seed: int) -> None:
    spells = troubles("refused-writes", seed)
    assert sorted(spell.kind.value for spell in spells) == [
        "no-permission",
        "no-replicas",
        "out-of-memory",
        "read-only",
    ]
    assert [spell.seconds for spell in spells].count(LONG_SPELL) == 1
    for before, after in pairwise(spells):
        assert after.at >= before.at + before.seconds + BETWEEN_SPELLS - 0.01
