"""A steady trickle of events beside thousands of idle devices: how long from publish to delivery."""

from benchmarks.model import devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import (
    WINDOW,
    Paced,
    Result,
    client_of,
    crowds_of,
    publisher_of,
    quantiles,
)
from benchmarks.scenarios.meter import Meter
from benchmarks.scenarios.pauses import collector_pauses
from benchmarks.sizes import Sizes

USERS = 20
PUBLISHERS = 8


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Publish at a steady rate for users with two devices each; the one that made it isn't told."""
    specs = list(devices_of("busy", 0, 2 * USERS))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    with client_of(server) as client, crowds_of(server) as crowds:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        crowds.grow(sizes.latency_idle, sizes.connect_timeout)
        with publisher_of(client, PUBLISHERS) as publisher:
            paced = Paced(client, publisher, pairs, sizes.latency_rate, alternation)
            paced.run(lambda seconds: seconds >= 1)  # warm-up
            server.calm_down(client, sizes.settle_seconds)
            pauses, meter = server.metrics(), Meter(server)
            latencies = paced.run(lambda seconds: seconds >= sizes.latency_seconds)
            spent = meter.per("event", len(latencies))
            pauses = collector_pauses(pauses, server.metrics())
            client.settle(0.3)
            posts = publisher.posts
        checked = client.ledger.verify(ordered=False)
        crowds.check()
    curve = quantiles(latencies)
    metrics = {
        "p50_ms": curve["50"],
        "p99_ms": curve["99"],
        "p99.9_ms": curve["99.9"],
        "worst_ms": curve["100"],
        **spent,
        "events": len(latencies),
        **pauses,
    }
    return Result(metrics=metrics, curve=curve, checked=checked, posts=posts)
