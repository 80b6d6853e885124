"""Idle devices that are pinged: what a ping and its pong cost."""

import time

import attrs

from benchmarks.model import BenchmarkError
from benchmarks.running import Running, running
from benchmarks.scenarios.common import Crowds, Result, client_of, crowds_of
from benchmarks.sizes import Sizes

FEWEST, MOST = 0.8, 1.3
"""Pings that may have come, of those that were due."""


def run(server: Running, sizes: Sizes, _limit: int, _alternation: int) -> Result:
    """Hold idle devices at a server that pings nobody meanwhile, then as many at one that pings each often.

    The devices count the pings, and answer at once. What the first server spends in a second while nobody
    does anything is taken off what the second one spends.
    """
    setup = attrs.evolve(server.setup, ping_interval=sizes.ping_interval)
    quiet, pings, seconds = spent(server, sizes, rest=0)
    quiet_rate = quiet / seconds
    if pings:
        raise BenchmarkError(f"{pings} pings from a server that shall not ping yet")
    with running(server.server, setup) as pinging:
        busy, pings, seconds = spent(pinging, sizes, rest=2 * sizes.ping_interval)
    due = sizes.ping_devices * seconds / sizes.ping_interval
    if not FEWEST * due <= pings <= MOST * due:
        raise BenchmarkError(f"{pings} pings came, and some {due:.0f} were due")
    metrics = {
        "ping_us": (busy - quiet_rate * seconds) / 1000 / pings,
        "quiet_ms_per_s": quiet_rate / 1e6,
        "pinging_ms_per_s": busy / seconds / 1e6,
        "pings_per_s": pings / seconds,
    }
    return Result(metrics=metrics)


def spent(server: Running, sizes: Sizes, rest: float) -> tuple[int, int, float]:
    """Connect the devices and measure while they are idle.

    Args:
        server: Which.
        sizes: How many, and for how long.
        rest: Seconds to wait before, at a server that pings.

    Returns:
        Nanoseconds of CPU time, pings, and seconds.
    """
    with client_of(server) as client, crowds_of(server) as crowds:
        crowds.grow(sizes.ping_devices, sizes.connect_timeout)
        if rest:  # one that pings is never quite calm
            client.settle(sizes.settle_seconds + rest)
        else:
            server.calm_down(client, sizes.settle_seconds)
        started, cpu, before = time.monotonic(), server.cpu(), counted(crowds)
        client.settle(sizes.ping_seconds)
        pings, cpu, seconds = counted(crowds) - before, server.cpu() - cpu, time.monotonic() - started
        crowds.check()
    return cpu, pings, seconds


def counted(crowds: Crowds) -> int:
    """Pings so far."""
    return sum(crowd.pings() for crowd in crowds.all)
