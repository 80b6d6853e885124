"""Many idle devices: what connecting one costs, what holding one costs, and whether others notice."""

import time

from benchmarks.model import EventSource, Speaks, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of, crowds_of, publisher_of
from benchmarks.sizes import Sizes

PROBE_DEVICES = 10


def run(server: Running, sizes: Sizes, limit: int, _alternation: int) -> Result:
    """Climb level by level and measure connections; then go down again and measure events at each level.

    On the way up nothing but connecting happens, so that memory is the connections' own. CPU per connect is
    all that the connects cost so far, divided by them: accept, upgrade, `authenticate` with a token and three
    vaults, `authenticated`; CPU per further connect is that of the connects since the level below, and once
    more that of all connects beyond the level `sizes.beyond`. RSS per connection is what the process grew
    since before the first one, after a rest, divided by the connections. On the way down, everything being
    warm, one user with ten devices is told of one event after the other: the same process and the same code,
    only with fewer idle devices beside them.
    """
    tells = server.target.speaks is not Speaks.LINE
    metrics: dict[str, float] = {}
    levels = sizes.reachable_levels(limit - PROBE_DEVICES)
    with client_of(server) as client, crowds_of(server) as crowds:
        probes = list(devices_of("probe", 0, PROBE_DEVICES if tells else 0, per_user=PROBE_DEVICES))
        client.connect(client.prepare(probes), window=WINDOW, timeout=sizes.connect_timeout)
        source = EventSource()
        with publisher_of(client) as publisher:

            def tell(count: int) -> None:
                for _index in range(count if tells else 0):
                    publisher.publish_and_wait([source.make(probes[0].user, probes[0].vaults[0])])

            tell(1)  # what is imported or compiled with the first event is not a connection's
            server.calm_down(client, sizes.settle_seconds)
            empty, spent, beyond = server.rss(), 0, 0
            for level in levels:
                fresh = level - crowds.size
                step = crowds.grow(level, sizes.connect_timeout)
                spent += step
                beyond += step if level > sizes.beyond else 0
                metrics[f"connect_us@{level}"] = spent / 1000 / level
                metrics[f"further_us@{level}"] = step / 1000 / fresh
                server.calm_down(client, sizes.settle_seconds)
                metrics[f"rss_kib@{level}"] = (server.rss() - empty) / 1024 / level
            if sizes.beyond in levels and levels[-1] > sizes.beyond:
                metrics["beyond_us"] = beyond / 1000 / (levels[-1] - sizes.beyond)
            started, before = time.monotonic(), server.cpu()
            client.settle(sizes.settle_seconds)
            metrics["idle_ms_per_s"] = (server.cpu() - before) / 1e6 / (time.monotonic() - started)
            crowds.check()
            tell(sizes.level_events)  # warm-up
            for level in reversed(levels if tells else ()):
                crowds.shrink(level)
                server.calm_down(client, sizes.settle_seconds)
                tell(20)
                before = server.cpu()
                tell(sizes.level_events)
                metrics[f"event_us@{level}"] = (server.cpu() - before) / 1000 / sizes.level_events
                crowds.check()
            posts = publisher.posts
        return Result(metrics=metrics, checked=client.ledger.verify(), posts=posts)
