"""Requests as fast as answers come: how many get through, what they cost, and who was busy meanwhile."""

from collections.abc import Callable, Sequence

from benchmarks.client import Client
from benchmarks.model import Event
from benchmarks.running import Running
from benchmarks.scenarios.common import publisher_of
from benchmarks.scenarios.meter import Meter


def flat_out(
    server: Running,
    client: Client,
    phase: str,
    make: Callable[[], Sequence[Event]],
    *,
    connections: int,
    warm_up: int,
    requests: int,
    timeout: float,
) -> tuple[dict[str, float], int]:
    """Publish over keep-alive connections, each with one request under way at a time.

    The requests are made before the first one is sent, and wait in the client.

    Args:
        server: Whose CPU time is taken.
        client: With the devices.
        phase: What the figures are called.
        make: Makes the events of one request.
        connections: How many.
        warm_up: Requests that are made and delivered before.
        requests: Those that are measured.
        timeout: Bounds the wait for the deliveries, in seconds.

    Returns:
        `PHASE_per_second`, deliveries a second; `PHASE_us` and `PHASE_cores`, as `Meter` has them. And the
        requests that were made, the first ones included.
    """
    with publisher_of(client, connections) as publisher:
        for count in (warm_up, requests):
            deliveries = sum(publisher.prepare(make()) for _request in range(count))
            client.settle(0.1)
            meter = Meter(server)
            publisher.start()
            client.run_until(publisher.is_done, timeout, f"{phase} events")
        metrics = {f"{phase}_per_second": deliveries / meter.seconds()}
        return metrics | meter.per(phase, deliveries) | meter.cores(phase), publisher.posts
