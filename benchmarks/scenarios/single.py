"""One event in one request, for one user after the other: what the smallest thing to publish costs."""

import random
from itertools import cycle

from benchmarks.model import Event, EventSource, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of
from benchmarks.scenarios.flat_out import flat_out
from benchmarks.sizes import Sizes

TOGETHER, MANY = 8, 32
"""How many connections have a request under way at the same time."""


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Publish one event after the other over one connection, then several at a time over as many connections.

    Each event is made by one of a user's two devices and delivered to the other. Users take turns, so that
    each one's part of the server's memory is cold; before each phase every user is told of one event. CPU per
    event is all of the server's CPU time, the HTTP request included.
    """
    choose = random.Random(alternation)
    specs = list(devices_of("single", 0, 2 * sizes.single_users))
    origins = cycle(specs[::2] + specs[1::2])
    source = EventSource()
    metrics: dict[str, float] = {}
    posts = 0

    def event() -> list[Event]:
        origin = next(origins)
        return [source.make(origin.user, choose.choice(origin.vaults), origin.group)]

    with client_of(server) as client:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        for phase, connections, requests in (
            ("serial", 1, sizes.single_serial),
            ("together", TOGETHER, sizes.single_together),
            ("many", MANY, sizes.single_together),
        ):
            figures, posted = flat_out(
                server,
                client,
                phase,
                event,
                connections=connections,
                warm_up=sizes.single_users,
                requests=requests,
                timeout=sizes.delivery_timeout,
            )
            metrics |= figures
            posts += posted
            client.settle(0.3)
            checked = client.ledger.verify(ordered=connections == 1)
    return Result(metrics=metrics, checked=checked, posts=posts)
