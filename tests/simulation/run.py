"""Runs the world of a seed."""

import gc
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import trio
from attrs import Factory, define
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.engine.redis import shard
from localful_ws.server import parking
from localful_ws.server.device import Device

from .determinism import determined
from .plan import Plan, make_plan
from .redis import opens
from .world import World

_STEPS = 3_000_000


@define
class Outcome:
    """What came of a seed.

    Attributes:
        seed: The seed.
        complaints: What is wrong.
        digest: Of all that happened: the same for the same seed.
        seconds: Virtual seconds that it lasted.
        figures: What happened, in numbers.
    """

    seed: int
    complaints: list[str] = Factory(list)
    digest: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = Factory(dict)


def run_seed(seed: int, *, plan: Plan | None = None, say: Callable[[str], None] | None = None) -> Outcome:
    """Run the world of a seed to its end.

    Args:
        seed: The seed.
        plan: The world, if not the one that the seed makes.
        say: Called with each line of what happens.
    """
    plan = plan or make_plan(seed)
    outcome = Outcome(seed)
    log: list[MutableMapping[str, Any]]
    with ExitStack() as stack:
        stack.enter_context(determined(seed))
        log = stack.enter_context(capture_logs())
        stack.enter_context(patch.object(shard, "open_link", opens))
        if plan.short_turns:
            stack.enter_context(patch.object(parking, "_TURN_SECONDS", -1.0))

        async def main() -> None:
            world = World(plan, say)
            world.node_log = log
            try:
                with _watched_verifying(world):
                    await world.run()
            except Exception as error:
                world.complain(f"it ended with {error!r}")
                outcome.figures["error"] = error
            outcome.complaints = world.complaints
            outcome.digest = world.digest.hexdigest()
            outcome.seconds = trio.current_time()
            outcome.figures |= {
                "lines": world.lines,
                "accepted": world.truth.count,
                "delivered": world.delivered,
                "resumes": dict(world.resumes),
                "closes": dict(world.closes),
                "refusals": dict(world.refusals),
                "errors": dict(world.errors),
                "publishes": dict(world.publishes),
                "looks": world.checks.looks,
            }

        gc.disable()
        try:
            trio.run(main, clock=MockClock(autojump_threshold=0))
        except BaseExceptionGroup as group:
            outcome.complaints.append(f"it broke off: {group!r}")
        finally:
            gc.enable()
    return outcome


@contextmanager
def _watched_verifying(world: World) -> Iterator[None]:
    """See that no two tasks verify tokens of one device at the same time."""
    verify = Device.verify
    verifying: set[Device] = set()

    async def watched(self: Device) -> None:
        if self in verifying:
            world.complain("a device's token is being verified twice")
        verifying.add(self)
        try:
            await verify(self)
        finally:
            verifying.discard(self)

    with patch.object(Device, "verify", watched):
        yield
