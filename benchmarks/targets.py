"""What the figures must show, as ratios or by themselves, and whether they do."""

from enum import Enum
from typing import Any

import attrs

from benchmarks.servers import LEAN

TRIO = "localful-trio-websocket"
NODE, FLOOR = "node-ws", "floor-sends"
BEFORE = "localful@47e6c4e"
"""The last version in which each device had a task of its own."""
REDIS = "localful-redis"
REDIS_BEFORE = "localful-redis@47e6c4e"
"""The same, and the last but one on a client of Redis that was not its own."""


class Bound(Enum):
    """On which side of its limit a figure must be; the limit itself will do."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


@attrs.frozen
class Target:
    """Our figure, or the ratio of it to another, must keep within `limit`."""

    what: str
    """May name sizes of the run, in braces."""
    against: str
    limit: float
    scenario: str
    ours: tuple[str, str]
    """Server and metric."""
    other: tuple[str, str] | None
    """What ours is divided by; None if it counts by itself."""
    bound: Bound = Bound.AT_MOST


@attrs.frozen
class Verdict:
    """A target and what was measured."""

    target: Target
    measured: float | None
    """The figure, or the ratio."""

    @property
    def holds(self) -> bool | None:
        """None if it wasn't measured."""
        if self.measured is None:
            return None
        if self.target.bound is Bound.AT_LEAST:
            return self.measured >= self.target.limit
        return self.measured <= self.target.limit


def fanout_targets() -> list[Target]:
    """CPU per delivered event at one user with many devices."""
    return [
        Target(
            what=f"fanout, {phase}, {name}",
            against=against,
            limit=limit,
            scenario="fanout",
            ours=(server, f"{phase}_us"),
            other=(other, f"{phase}_us"),
        )
        for other, against, limits in ((NODE, "Node ws", (0.7, 0.75)), (FLOOR, "loop of sends", (1.5, 1.5)))
        for server, name in ((LEAN, "lean"), (TRIO, "trio-websocket"))
        for phase, limit in zip(("single", "burst"), limits, strict=True)
    ]


def connection_targets() -> list[Target]:
    """CPU and RSS per connection, at the two sizes that matter."""
    return [
        Target(
            what=what.format(level=f"{level:,}"),
            against=against,
            limit=limit,
            scenario="connections",
            ours=(LEAN, f"{metric}@{level}"),
            other=None if other is None else (other, f"{metric}@{level}"),
        )
        for what, metric, other, against, limit in (
            ("CPU per further connect, lean, up to {level}", "further_us", BEFORE, "before parking", 0.6),
            ("RSS per connection, KiB, lean, at {level}", "rss_kib", None, "-", 2.0),
        )
        for level in (5000, 10_000, 19_700)
    ]


def life_targets() -> list[Target]:
    """What devices cost that stay, and what happens when thousands come back."""
    return [
        Target(
            what=what,
            against="-" if other is None else "Node ws",
            limit=limit,
            scenario=scenario,
            ours=(LEAN, metric),
            other=None if other is None else (other, metric),
        )
        for what, scenario, metric, other, limit in (
            ("a ping and its pong, lean", "ping", "ping_us", NODE, 1.5),
            ("storm: until all are back, lean", "storm", "all_back_s", NODE, 1.0),
            ("storm: healthy devices' p50, ms, lean", "storm", "storm_p50_ms", None, 5.0),
        )
    ]


def idle_targets() -> list[Target]:
    """An event costs the same however many are idle."""
    return [
        Target(
            what=f"one event beside 10,000 idle, {name}",
            against="beside 100",
            limit=1.1,
            scenario="connections",
            ours=(server, "event_us@10000"),
            other=(server, "event_us@100"),
        )
        for server, name in ((LEAN, "lean"), (TRIO, "trio-websocket"))
    ]


def other_targets() -> list[Target]:
    """Events for many users, and latency."""
    return [
        Target(
            what=f"{what}, {name}",
            against="Node ws",
            limit=limit,
            scenario=scenario,
            ours=(server, metric),
            other=(NODE, metric),
        )
        for what, scenario, metric, limit in (
            ("users", "users", "event_us", 0.6),
            ("p99 latency", "latency", "p99_ms", 1.2),
        )
        for server, name in ((LEAN, "lean"), (TRIO, "trio-websocket"))
    ]


def single_targets() -> list[Target]:
    """One event in each request: what it costs, how many get through, and how long they are under way."""
    return [
        *(
            Target(
                what=f"single events, {how}, lean",
                against="Node ws",
                limit=limit,
                scenario="single",
                ours=(LEAN, metric),
                other=(NODE, metric),
            )
            for how, metric, limit in (
                ("one after the other", "serial_us", 0.8),
                ("8 at a time", "together_us", 1.1),
            )
        ),
        Target(
            what="single events/s, 8 at a time, lean",
            against="-",
            limit=3500,
            scenario="single",
            ours=(LEAN, "together_per_second"),
            other=None,
            bound=Bound.AT_LEAST,
        ),
        Target(
            what="p99 at {load_rate:,} single events/s, ms, lean",
            against="-",
            limit=20,
            scenario="load",
            ours=(LEAN, "paced_p99_ms"),
            other=None,
        ),
    ]


def redis_targets() -> list[Target]:
    """What the way through Redis costs."""
    return [
        Target(
            what="single events through Redis, one after the other",
            against="memory",
            limit=2.0,
            scenario="single",
            ours=(REDIS, "serial_us"),
            other=(LEAN, "serial_us"),
        ),
        Target(
            what="single events/s through Redis, 32 at a time",
            against="47e6c4e",
            limit=2.5,
            scenario="single",
            ours=(REDIS, "many_per_second"),
            other=(REDIS_BEFORE, "many_per_second"),
            bound=Bound.AT_LEAST,
        ),
        Target(
            what="events in batches of {load_batch} through Redis, µs",
            against="-",
            limit=35.0,
            scenario="load",
            ours=(REDIS, "batch_us"),
            other=None,
        ),
        Target(
            what="a further connect with Redis",
            against="memory",
            limit=1.5,
            scenario="connections",
            ours=(REDIS, "further_us"),
            other=(LEAN, "further_us"),
        ),
    ]


def others_targets() -> list[Target]:
    """What a node spends on its own events does not depend on other users' events in the same Redis."""
    return [
        Target(
            what="own event beside 2,000/s for others, Redis",
            against=against,
            limit=1.1,
            scenario="others",
            ours=("localful-redis", "own_us@2000"),
            other=("localful-redis", f"own_us@{other}"),
        )
        for other, against in (("0", "beside none"), ("elsewhere", "another Redis"))
    ]


TARGETS = (
    *fanout_targets(),
    *other_targets(),
    *single_targets(),
    *redis_targets(),
    *connection_targets(),
    *life_targets(),
    *idle_targets(),
    *others_targets(),
)


def judge(record: dict[str, Any]) -> list[Verdict]:
    """Hold a record against the targets."""
    return [Verdict(target, measured(record, target)) for target in TARGETS]


def measured(record: dict[str, Any], target: Target) -> float | None:
    """The figure or the ratio that a target is about; None if it wasn't measured."""
    servers = record["scenarios"].get(target.scenario, {})

    def median(server: str, metric: str) -> float | None:
        value: float | None = servers.get(server, {}).get("median", {}).get(metric)
        return value

    ours = median(*target.ours)
    if target.other is None:
        return ours
    other = median(*target.other)
    return ours / other if ours is not None and other else None
