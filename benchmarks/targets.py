"""What the figures must show, as ratios, and whether they do."""

from typing import Any

import attrs

from benchmarks.servers import LEAN

TRIO = "localful-trio-websocket"
NODE, WEBSOCKETS, FLOOR = "node-ws", "websockets", "floor-sends"


@attrs.frozen
class Target:
    """Our figure divided by another must not be more than `limit`."""

    what: str
    against: str
    limit: float
    scenario: str
    ours: tuple[str, str]
    """Server and metric."""
    other: tuple[str, str]


@attrs.frozen
class Verdict:
    """A target and what was measured."""

    target: Target
    ratio: float | None

    @property
    def holds(self) -> bool | None:
        """None if it wasn't measured."""
        return None if self.ratio is None else self.ratio <= self.target.limit


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
        for other, against, limit in ((NODE, "Node ws", 0.75), (FLOOR, "loop of sends", 1.5))
        for server, name in ((LEAN, "lean"), (TRIO, "trio-websocket"))
        for phase in ("single", "burst")
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
            other=(other, f"{metric}@{level}"),
        )
        for what, metric, other, against, limit in (
            ("CPU per connect, lean, first {level}", "connect_us", NODE, "Node ws", 0.55),
            ("CPU per further connect, lean, up to {level}", "further_us", NODE, "Node ws", 0.55),
            ("RSS per connection, lean, at {level}", "rss_kib", WEBSOCKETS, "websockets", 0.75),
            ("RSS per connection, lean, at {level}", "rss_kib", NODE, "Node ws", 1.2),
        )
        for level in (5000, 10_000)
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
    *connection_targets(),
    *idle_targets(),
    *others_targets(),
)


def judge(record: dict[str, Any]) -> list[Verdict]:
    """Hold a record against the targets."""
    verdicts = []
    for target in TARGETS:
        servers = record["scenarios"].get(target.scenario, {})
        ours, other = (
            servers.get(server, {}).get("median", {}).get(metric)
            for server, metric in (target.ours, target.other)
        )
        verdicts.append(Verdict(target, ours / other if ours is not None and other else None))
    return verdicts
