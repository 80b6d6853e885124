"""What is measured: each scenario runs against one server and returns its figures."""

from collections.abc import Callable

import attrs

from benchmarks.running import Running
from benchmarks.scenarios import (
    abuse,
    connections,
    crowd,
    fanout,
    latency,
    leak,
    load,
    others,
    ping,
    resume,
    single,
    soak,
    storm,
    users,
)
from benchmarks.scenarios.common import Result
from benchmarks.setup import Setup
from benchmarks.sizes import Sizes

USUAL_SECONDS = 300.0


@attrs.frozen
class Scenario:
    """One of the things that are measured.

    Attributes:
        run: Measures it. Arguments: the server, the sizes, the most connections, which alternation this is.
        setup: What the server is told.
        seconds: One run against one server may not take longer.
        is_apart: Whether it is measured only where it is asked for by name.
    """

    run: Callable[[Running, Sizes, int, int], Result]
    setup: Setup = attrs.field(factory=Setup)
    seconds: Callable[[Sizes], float] = lambda _sizes: USUAL_SECONDS
    is_apart: bool = False


SCENARIOS: dict[str, Scenario] = {
    "connections": Scenario(connections.run),
    "fanout": Scenario(fanout.run),
    "users": Scenario(users.run),
    "single": Scenario(single.run),
    "latency": Scenario(latency.run),
    "storm": Scenario(storm.run),
    "load": Scenario(load.run),
    "others": Scenario(others.run),
    "resume": Scenario(resume.run),
    "ping": Scenario(ping.run, is_apart=True),
    "abuse": Scenario(abuse.run, setup=abuse.SETUP, is_apart=True),
    "crowd": Scenario(crowd.run, seconds=crowd.most_seconds, is_apart=True),
    "leak": Scenario(leak.run, setup=leak.SETUP, is_apart=True),
    "soak": Scenario(soak.run, seconds=lambda sizes: USUAL_SECONDS + sizes.soak_seconds, is_apart=True),
}
