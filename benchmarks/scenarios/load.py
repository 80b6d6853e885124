"""More than one process takes: how much gets through, what it costs, and how long events are under way."""

import random
from functools import partial

from benchmarks.model import Event, EventSource, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import Paced, Result, client_of, publisher_of, quantiles
from benchmarks.scenarios.flat_out import flat_out
from benchmarks.scenarios.meter import Meter
from benchmarks.sizes import Sizes

WINDOW = 256
"""How many devices connect at the same time."""
SINGLE, BATCH = 32, 8
"""How many requests are under way at the same time, with one event each and with batches."""
WARM_UP = 50


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Connect devices, publish single events, publish batches, each as fast as it goes; then at a fixed rate.

    Each user has two devices, and each event is made by one and delivered to the other. Requests wait in the
    client and are sent as soon as a connection is free, over many connections, so that every worker has
    some. A server that is slower than the rate at the end has a queue, which is in the latency.
    """
    choose = random.Random(alternation)
    specs = list(devices_of("load", 0, 2 * sizes.load_users))
    source = EventSource()
    metrics: dict[str, float] = {}

    def batch(together: int) -> list[Event]:
        origins = [choose.choice(specs) for _index in range(together)]
        return [source.make(origin.user, choose.choice(origin.vaults), origin.group) for origin in origins]

    with client_of(server) as client:
        devices = client.prepare(specs)
        meter = Meter(server)
        client.connect(devices, window=WINDOW, timeout=sizes.connect_timeout)
        metrics |= {"connects_per_second": len(devices) / meter.seconds()}
        metrics |= meter.per("connect", len(devices)) | meter.cores("connect")
        posts = 0
        for phase, together, rounds, connections in (
            ("single", 1, sizes.load_single, SINGLE),
            ("batch", sizes.load_batch, sizes.load_batches, BATCH),
        ):
            figures, posted = flat_out(
                server,
                client,
                phase,
                partial(batch, together),
                connections=connections,
                warm_up=WARM_UP,
                requests=rounds,
                timeout=sizes.delivery_timeout,
            )
            metrics |= figures
            posts += posted
        pairs = list(zip(specs[::2], specs[1::2], strict=True))
        with publisher_of(client, SINGLE) as publisher:
            paced = Paced(client, publisher, pairs, sizes.load_rate, alternation, source=source)
            meter = Meter(server)
            curve = quantiles(paced.run(lambda seconds: seconds >= sizes.load_seconds))
            metrics |= meter.cores("paced")
            metrics |= {"paced_p50_ms": curve["50"], "paced_p99_ms": curve["99"]}
            client.settle(0.3)
            posts += publisher.posts
        checked = client.ledger.verify(ordered=False)
    return Result(metrics=metrics, curve=curve, checked=checked, posts=posts)
