"""What a seed makes: how big a world is, what it is made of, and what goes wrong in it.

Each seed draws its own mix, so that what can happen together is little and different each time. Most worlds
are small, so that many can be seen.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from attrs import evolve, frozen

from localful_ws.protocol import Rate

from .network import NetworkPlan

Odds = Mapping[str, float]

BIG = 15_000
"""The most bytes of data that an event has, about."""

# Small, so that other limits can be small as well: what one allows has to fit into another.
_SIZES = {"max_event_bytes": 16_384, "max_message_bytes": 32_768, "max_vaults": 100}

# How a device begins.
_BEGINNINGS = {
    "prompt": 12.0, "late": 2.0, "edge": 1.0, "never": 1.0, "pinging": 1.0, "half": 0.7, "header": 1.5,
    "bad-header": 0.5, "bad-token": 1.0, "other-first": 0.7, "garbage-first": 0.7, "unfinished": 0.4,
}  # fmt: skip
# What a device does once it is authenticated, so often a minute.
_DEEDS = {
    "subscribe": 20.0, "renew": 4.0, "ping": 4.0, "close": 2.0, "reset": 2.0, "half-close": 1.0, "stall": 8.0,
    "slow": 5.0, "dark": 0.5, "garbage": 0.5, "binary": 0.3, "foreign": 0.3, "bad-renewal": 0.5, "flood": 0.3,
    "many-vaults": 0.5, "unmasked": 0.2, "too-big": 0.2, "regroup": 0.5,
}  # fmt: skip
# What happens to nodes and to the engine, so often a minute.
_BLOWS = {
    "drain": 3.0, "kill": 2.0, "disconnect-user": 5.0, "disconnect-login": 12.0, "disconnect-group": 2.0,
    "pause": 1.0, "wall-clock": 2.0, "reset-all": 0.3, "probe": 6.0,
}  # fmt: skip
_REDIS_BLOWS = {"redis-down": 3.0, "redis-stall": 4.0, "redis-lose-one": 6.0, "redis-forget": 0.3}


@frozen
class Plan:
    """A world in the making.

    Attributes:
        seed: What it is drawn from.
        engine: ``memory``, or ``redis`` for a simulated one.
        nodes: How many nodes.
        users: How many users.
        devices: How many devices.
        clients: How many of them are the project's own client.
        publishers: How many publishers.
        vaults: How many vaults a user has.
        groups: How many token groups a user has.
        seconds: How long there are faults.
        pace: Publishes a second, of each publisher.
        batch: The most events in a publish.
        big: How often an event's data is big.
        settings: The nodes' settings, as far as they differ from the defaults.
        network: What connections are like.
        beginnings: How devices begin, weighted.
        deeds: What devices do, so often a minute.
        blows: What happens to nodes, so often a minute.
        redis_delay: The least and most seconds to and from Redis.
        redis_loses_answers: How often an answer of Redis is lost.
        ttl: The least and most seconds that tokens last.
        away: How long a device stays away, on average, that has closed its connection.
        grid: What devices do they do at multiples of so many seconds; 0 for any moment.
        other_streams: How often a connection is no socket, and so can't be parked.
        verify_seconds: The most seconds that verifying a token takes.
        work: The most seconds that a node is busy with what it reads from a socket at once.
        short_turns: Whether all others have their turn after each parked device.
        look_every: Every so many seconds it is seen that buffers are within their bounds.
    """

    seed: int
    engine: str
    nodes: int
    users: int
    devices: int
    clients: int
    publishers: int
    vaults: int
    groups: int
    seconds: float
    pace: float
    batch: int
    big: float
    settings: Mapping[str, Any]
    network: NetworkPlan
    beginnings: Odds
    deeds: Odds
    blows: Odds
    redis_delay: tuple[float, float]
    redis_loses_answers: float
    ttl: tuple[float, float]
    away: float = 0.0
    grid: float = 0.0
    other_streams: float = 0.0
    verify_seconds: float = 0.0
    work: float = 0.0
    short_turns: bool = False
    look_every: float = 2.0


def make_plan(seed: int) -> Plan:
    """Draw a world."""
    random, sending = Random(f"{seed} plan"), Random(f"{seed} sending")
    failing = Random(f"{seed} failing")
    engine = "redis" if random.random() < 0.35 else "memory"
    size = random.random()
    if size < 0.95:
        devices, seconds = random.randint(2, 5), random.uniform(2, 9)
    elif size < 0.998:
        devices, seconds = random.randint(8, 25), random.uniform(10, 30)
    else:
        devices, seconds = random.randint(60, 250), random.uniform(10, 20)
    publishers = random.choice((1, 1, 2, 3)) if devices < 60 else random.randint(2, 6)
    if random.random() < 0.005:
        publishers = 150
    blows = _some(random, _BLOWS, 0.5)
    if engine == "redis":
        blows |= _some(random, _REDIS_BLOWS, 0.6) | _some(failing, {"failover": 15.0}, 0.6)
    plan = Plan(
        seed=seed,
        engine=engine,
        nodes=random.choice((1, 2, 2, 3)) if engine == "redis" else random.choice((1, 1, 1, 2)),
        users=random.choice((1, 1, 2, 3, 5)) if devices < 60 else random.choice((1, 5, 20)),
        devices=devices,
        clients=random.randint(0, 2) if random.random() < 0.25 else 0,
        publishers=publishers,
        vaults=random.randint(1, 4),
        groups=random.randint(1, 4),
        seconds=seconds,
        pace=random.choice((0.3, 1.0, 3.0)) if devices < 60 else 0.5,
        batch=random.choice((1, 1, 1, 3, 8, 20)) if devices < 60 else random.choice((1, 3)),
        big=random.choice((0.0, 0.0, 0.02, 0.2)),
        settings=_SIZES
        | _settings(random)
        | _send_settings(sending)
        | _sometimes(failing, 0.2, redis_handover_seconds=(0.0, 2.0, 5.0)),
        network=_network(random),
        beginnings={"prompt": 12.0} | _some(random, _BEGINNINGS, 0.5),
        deeds=_some(random, _DEEDS, 0.5),
        blows=blows,
        redis_delay=random.choice(((0.0, 0.0), (0.0, 0.002), (0.001, 0.05), (0.0, 0.5))),
        redis_loses_answers=random.choice((0.0, 0.0, 0.002, 0.02)),
        ttl=random.choice(((300.0, 3600.0), (20.0, 100.0), (5.0, 40.0))),
        other_streams=sending.choice((0.0, 0.0, 0.3, 1.0)),
        verify_seconds=sending.choice((0.0, 0.0, 0.3, 1.0)),
        short_turns=sending.random() < 0.5,
    )
    if devices >= 60:
        return plan
    if failing.random() < 0.05:
        return _failing(plan, failing)
    kind = sending.random()
    if kind < 0.03:
        return _busy(plan)
    return _with_slow_devices(plan, sending) if kind < 0.2 else plan


def _busy(plan: Plan) -> Plan:
    """A world whose node has so much to do that what it was told of sockets is old when it comes to it."""
    return evolve(
        plan,
        engine="memory",
        nodes=1,
        devices=25,
        seconds=20.0,
        settings={**_SIZES, "ping_interval": 1.0, "ping_timeout": 0.5, "close_timeout": 0.5},
        network=NetworkPlan(),
        beginnings={"header": 3.0, "prompt": 1.0},
        deeds={"ping": 60.0, "subscribe": 60.0, "renew": 20.0, "close": 10.0, "dark": 2.0, "half-close": 3.0},
        blows={"reset-all": 3.0, "drain": 1.0},
        other_streams=0.0,
        work=1.0,
        short_turns=True,
    )


def _failing(plan: Plan, random: Random) -> Plan:
    """A world in which Redis is replaced again and again, and devices come and go meanwhile."""
    settings = {key: value for key, value in plan.settings.items() if not key.startswith("history")}
    return evolve(
        plan,
        engine="redis",
        nodes=3,
        devices=8,
        seconds=random.uniform(6, 12),
        publishers=3,
        pace=random.choice((0.5, 3.0)),
        batch=1,
        settings=settings,
        network=NetworkPlan(),
        deeds={"close": 10.0, "reset": 10.0, "subscribe": 5.0},
        blows={"failover": 15.0} | _some(random, _BLOWS | _REDIS_BLOWS, 0.15),
        redis_delay=random.choice(((0.0, 0.0), (0.0, 0.002), (0.001, 0.05))),
        redis_loses_answers=0.0,
    )


def _with_slow_devices(plan: Plan, random: Random) -> Plan:
    """A world in which much has to wait."""
    return evolve(
        plan,
        pace=3.0,
        batch=random.choice((3, 8, 20)),
        big=random.choice((0.2, 0.6)),
        network=evolve(plan.network, window=random.choice((1024, 8192, 65536))),
        deeds={**plan.deeds, "stall": 30.0, "slow": 10.0},
        look_every=0.25,
    )


def _some(random: Random, odds: Odds, share: float) -> dict[str, float]:
    return {
        name: rate * random.choice((0.5, 1.0, 3.0)) for name, rate in odds.items() if random.random() < share
    }


def _settings(random: Random) -> dict[str, Any]:
    """Limits that are small enough to be reached, now and then."""

    def sometimes(share: float, **some: Any) -> dict[str, Any]:
        return _sometimes(random, share, **some)

    return {
        **sometimes(0.4, send_buffer_events=(2, 5, 20)),
        **sometimes(0.2, send_buffer_bytes=(80_000, 200_000)),
        **sometimes(0.4, history_events=(0, 3, 20, 100)),
        **sometimes(0.3, history_seconds=(0.0, 2.0, 10.0, 60.0)),
        **sometimes(0.15, history_bytes=(0, 41_000, 80_000)),
        **sometimes(0.2, publish_queue=(1, 4)),
        **sometimes(0.2, max_connections_per_user=(2, 5)),
        **sometimes(0.1, max_connections=(3, 8)),
        **sometimes(0.2, message_rate=(Rate(5, 10.0), Rate(2, 1.0))),
        **sometimes(0.2, max_vaults=(1, 2)),
        **sometimes(0.3, ping_interval=(1.0, 5.0), ping_timeout=(0.5, 3.0)),
        **sometimes(0.2, close_timeout=(0.5, 2.0)),
        **sometimes(0.3, redis_queue_bytes=(1024, 4096)),
        **sometimes(0.1, max_revocations=(1, 3)),
        **sometimes(0.1, idempotency_events=(3, 20)),
        **sometimes(0.3, redis_timeout=(1.0, 2.0), redis_retry=(0.5, 2.0)),
        **sometimes(0.2, renewal_window=(5.0, 20.0)),
    }


def _send_settings(random: Random) -> dict[str, Any]:
    return {
        **_sometimes(
            random, 0.3, send_buffer_bytes=(80_000,), send_budget=(400_000,), max_publish_bytes=(310_000,)
        ),
        **_sometimes(random, 0.3, send_timeout=(0.5, 3.0)),
    }


def _sometimes(random: Random, share: float, **some: Any) -> dict[str, Any]:
    return {name: random.choice(values) for name, values in some.items()} if random.random() < share else {}


def _network(random: Random) -> NetworkPlan:
    return NetworkPlan(
        delay=random.choice(((0.0, 0.0), (0.0, 0.0), (0.001, 0.02), (0.0, 0.4), (0.1, 1.2))),
        window=random.choice((65536, 65536, 65536, 8192, 1024, 1024)),
        fragment=random.choice((0, 0, 0, 1, 10, 200)),
        short_writes=random.choice((0.0, 0.0, 0.2)),
    )
