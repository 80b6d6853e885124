"""Thousands of devices drop out and come back at once: how long until all are back, and who suffers."""

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
from benchmarks.sizes import Sizes

USERS = 20
PUBLISHERS = 8


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Reset all connections of the crowd and open them again, while healthy devices are told of events.

    A device that is cut off on its way, by the three seconds for instance, tries again. The time counts from
    the first reset to the last `authenticated`.
    """
    specs = list(devices_of("healthy", 0, 2 * USERS))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    with client_of(server) as client, crowds_of(server) as crowds:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        crowds.grow(sizes.storm_devices, sizes.connect_timeout)
        with publisher_of(client, PUBLISHERS) as publisher:
            paced = Paced(client, publisher, pairs, sizes.storm_rate, alternation)
            calm = quantiles(paced.run(lambda seconds: seconds >= sizes.storm_calm_seconds))
            server.calm_down(client, sizes.settle_seconds)
            before = server.cpu()
            crowds.all[0].send({"do": "storm", "timeout": sizes.connect_timeout})
            told: list[dict[str, float]] = []

            def over(_seconds: float) -> bool:
                answer = crowds.all[0].poll(0)
                if answer is not None:
                    told.append(answer)
                return bool(told)

            latencies = paced.run(over)
            spent = server.cpu() - before
            client.settle(0.3)
            posts = publisher.posts
        checked = client.ledger.verify(ordered=False)
        crowds.check()
    curve = quantiles(latencies)
    metrics = {
        "all_back_s": told[0]["seconds"],
        "retries": told[0]["retries"],
        "cpu_s": spent / 1e9,
        "calm_p50_ms": calm["50"],
        "calm_p99_ms": calm["99"],
        "storm_p50_ms": curve["50"],
        "storm_p99_ms": curve["99"],
        "storm_worst_ms": curve["100"],
        "storm_events": len(latencies),
    }
    return Result(metrics=metrics, curve=curve, checked=checked, posts=posts)
