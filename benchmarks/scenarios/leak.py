"""Connections that come and go, with Python's collector switched off: what is left of each."""

from benchmarks.client import Client
from benchmarks.device import Device
from benchmarks.model import BenchmarkError, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of
from benchmarks.scenarios.pauses import collector_pauses
from benchmarks.setup import Setup, variable
from benchmarks.sizes import Sizes

WARM_UP_ROUNDS = 2
SETUP = Setup(collector=False, settings={variable("gc-threshold"): "0"})
"""The daemon is told to leave the collector as it is, which is off."""


def run(server: Running, sizes: Sizes, _limit: int, _alternation: int) -> Result:
    """Connect some devices and let them go, over and over: every other time with a goodbye, else without.

    Without the collector, what refers to itself in a circle stays for good, and the process grows by it with
    each connection. The first rounds are not counted.
    """
    with client_of(server) as client:
        devices = client.prepare(devices_of("leak", 0, sizes.leak_devices))
        for turn in range(WARM_UP_ROUNDS):
            come_and_go(client, devices, sizes, with_goodbye=turn % 2 == 0)
        server.calm_down(client, sizes.settle_seconds)
        before, collections = server.rss(), server.metrics()
        rounds = -(-sizes.leak_connects // len(devices))
        for turn in range(rounds):
            come_and_go(client, devices, sizes, with_goodbye=turn % 2 == 0)
        server.calm_down(client, sizes.settle_seconds)
        after = server.rss()
        pauses = collector_pauses(collections, server.metrics())
        if pauses.get("gc_pauses"):
            raise BenchmarkError(f"the collector ran {pauses['gc_pauses']:.0f} times")
        connects = rounds * len(devices)
    metrics = {
        "connects": connects,
        "before_mib": before / 2**20,
        "after_mib": after / 2**20,
        "left_bytes": (after - before) / connects,
    }
    return Result(metrics=metrics)


def come_and_go(client: Client, devices: list[Device], sizes: Sizes, *, with_goodbye: bool) -> None:
    """All connect and authenticate; then all go."""
    client.connect(devices, window=WINDOW, timeout=sizes.connect_timeout)
    for device in devices:
        if with_goodbye:
            client.leave(device)
        else:
            client.vanish(device)
        device.attempts = 0
    client.run_until(client.is_settled, sizes.connect_timeout, "goodbyes")
