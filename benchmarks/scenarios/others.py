"""What a node spends on its own users, while another node publishes for users that it doesn't have."""

from contextlib import ExitStack

from benchmarks.flood import flooding
from benchmarks.model import devices_of
from benchmarks.running import Running, running
from benchmarks.scenarios.common import WINDOW, Paced, Result, client_of, publisher_of, quantiles
from benchmarks.scenarios.meter import Meter
from benchmarks.sizes import Sizes

PUBLISHERS = 8
ELSEWHERE = "elsewhere"
PAUSE = 0.5


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Publish at a steady rate for the measured node's devices; in phases, another node publishes for others.

    The other node has no devices and uses the same Redis. In the last phase the highest rate goes through a
    third node into a Redis of its own, as a control: what the measured node spends more then than without
    any flood is the price of a busy machine, not of the other users' events. Every other alternation goes
    through the phases backwards.
    """
    specs = list(devices_of("own", 0, sizes.others_devices))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    metrics: dict[str, float] = {}
    with ExitStack() as stack:
        client = stack.enter_context(client_of(server))
        other = stack.enter_context(running(server.server, beside=server))
        elsewhere = stack.enter_context(running(server.server))
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        publisher = stack.enter_context(publisher_of(client, PUBLISHERS))
        paced = Paced(client, publisher, pairs, sizes.others_rate, alternation)
        paced.run(lambda seconds: seconds >= 1)  # warm-up
        server.calm_down(client, sizes.settle_seconds)
        meter = Meter(server)
        client.settle(sizes.settle_seconds)
        metrics |= at("idle", meter)
        phases = [(str(rate), other, rate) for rate in sizes.others_rates]
        phases.append((ELSEWHERE, elsewhere, max(sizes.others_rates)))
        for label, node, rate in phases if alternation % 2 == 0 else reversed(phases):
            with ExitStack() as phase:
                flood = None
                if rate:
                    port = node.target.internal_port
                    flood = phase.enter_context(flooding(port, rate, sizes.others_batch))
                server.calm_down(client, PAUSE)
                meter, beside = Meter(server), Meter(node)
                latencies = paced.run(lambda seconds: seconds >= sizes.others_seconds)
                metrics |= at(label, meter)
                metrics[f"own_us@{label}"] = meter.per("own", len(latencies))["own_us"]
                metrics[f"other_ms@{label}"] = beside.cores("other")["other_cores"] * 1000 if rate else 0.0
                metrics[f"p99_ms@{label}"] = quantiles(latencies)["99"]
                metrics[f"rate@{label}"] = 0.0 if flood is None else flood.finish()
        client.settle(0.3)
        return Result(metrics=metrics, checked=client.ledger.verify(ordered=False), posts=publisher.posts)


def at(label: str, meter: Meter) -> dict[str, float]:
    """CPU of the measured node and of Redis, in milliseconds a second."""
    cores = meter.cores("node")
    return {
        f"node_ms@{label}": 1000 * cores["node_cores"],
        f"redis_ms@{label}": 1000 * cores["node_redis_cores"],
    }
