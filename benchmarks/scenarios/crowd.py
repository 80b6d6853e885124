"""As many devices as a machine takes: their memory, what an event costs beside them, and their return."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import attrs

from benchmarks.crowd import Crowd
from benchmarks.helper import QUICK_ANSWER, ask_all
from benchmarks.model import BenchmarkError, devices_of
from benchmarks.procstat import MachineMemory, rss_bytes
from benchmarks.running import Running, running
from benchmarks.scenarios.common import WINDOW, Paced, Result, client_of, publisher_of, quantiles
from benchmarks.scenarios.meter import Meter
from benchmarks.scenarios.pauses import collector_pauses
from benchmarks.servers import open_files
from benchmarks.sizes import RESERVED_FILES, Sizes

USERS = 20
PUBLISHERS = 8
BESIDES = 2 * USERS + 60
"""Open files of the first server that the measuring client needs."""
BYTES_PER_DEVICE = 40 * 1024
"""What must be free for each, for both ends, in the processes and in the kernel."""


def most_seconds(sizes: Sizes) -> float:
    """What a run may take."""
    return 300 + sizes.crowd_seconds + 3 * wait_seconds(sizes)


def wait_seconds(sizes: Sizes) -> float:
    """What all devices together may take for one thing."""
    return sizes.connect_timeout + sizes.crowd_devices / 300


def shares(devices: int, limit: int) -> list[int]:
    """How many devices each server gets, with as few servers as will do."""
    most = min(open_files() - RESERVED_FILES, limit) - BESIDES
    servers = -(-devices // most)
    return [devices // servers + (index < devices % servers) for index in range(servers)]


def run(server: Running, sizes: Sizes, limit: int, alternation: int) -> Result:
    """Connect devices to several servers; tell some of events; cut all of them off, and let them come back.

    A process may hold only so many sockets, so there are as many servers as it takes, each with its own port
    and its own process of devices. They connect to all servers at the same time, a few at a time to each.
    Then users at the first server are told of events. In the end all connections are reset and made again.
    """
    counts = shares(sizes.crowd_devices, limit)
    if MachineMemory.now().available < BYTES_PER_DEVICE * sizes.crowd_devices:
        raise BenchmarkError(f"there is not enough memory for {sizes.crowd_devices:,} devices")
    wait = wait_seconds(sizes)
    specs = list(devices_of("busy", 0, 2 * USERS))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    metrics: dict[str, float] = {"devices": sizes.crowd_devices, "servers": len(counts)}
    with ExitStack() as stack:
        servers = [server]
        servers += [stack.enter_context(running(server.server, server.setup)) for _count in counts[1:]]
        together = attrs.evolve(server, pids=[pid for each in servers for pid in each.pids])
        client = stack.enter_context(client_of(server))
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        crowds: list[Crowd] = []
        for index, each in enumerate(servers):
            crowds.append(Crowd(each.target, index))
            stack.callback(crowds[-1].close)
        for crowd, count in zip(crowds, counts, strict=True):
            crowd.send({"do": "prepare", "count": count})
        for crowd in crowds:
            crowd.answer("prepare", wait)

        publisher = stack.enter_context(publisher_of(client, PUBLISHERS))
        paced = Paced(client, publisher, pairs, sizes.crowd_rate, alternation)
        paced.run(lambda seconds: seconds >= 1)  # warm-up
        together.calm_down(client, sizes.settle_seconds)
        before, looked = Footprint.of(together, crowds), look(servers)

        cpu, started = together.cpu(), time.monotonic()
        ask_all(crowds, {"do": "connect", "window": WINDOW, "timeout": wait}, wait + QUICK_ANSWER)
        metrics["connect_s"] = time.monotonic() - started
        metrics["connect_us"] = (together.cpu() - cpu) / 1000 / sizes.crowd_devices
        together.calm_down(client, sizes.settle_seconds)
        metrics |= Footprint.of(together, crowds).since(before, sizes.crowd_devices)
        metrics |= pauses("connect", looked, looked := look(servers))

        meter = Meter(server)
        latencies = paced.run(lambda seconds: seconds >= sizes.crowd_seconds)
        metrics |= meter.per("event", len(latencies))
        curve = quantiles(latencies)
        metrics |= {"p50_ms": curve["50"], "p99_ms": curve["99"], "worst_ms": curve["100"]}
        metrics |= pauses("event", looked, looked := look(servers))

        cpu, started = together.cpu(), time.monotonic()
        storm = {"do": "storm", "window": sizes.crowd_window, "timeout": wait}
        answers = ask_all(crowds, storm, wait + QUICK_ANSWER)
        metrics["all_back_s"] = time.monotonic() - started
        metrics["retries"] = sum(answer["retries"] for answer in answers)
        metrics["back_us"] = (together.cpu() - cpu) / 1000 / sizes.crowd_devices
        metrics |= pauses("back", looked, look(servers))

        if [crowd.check() for crowd in crowds] != counts:
            raise BenchmarkError("devices were lost")
        client.settle(0.3)
        checked = client.ledger.verify(ordered=False)
        return Result(metrics=metrics, curve=curve, checked=checked, posts=publisher.posts)


@attrs.frozen
class Footprint:
    """What is in use, in bytes: by the servers, by the processes of the devices, and by the machine."""

    servers: int
    crowds: int
    machine: MachineMemory

    @classmethod
    def of(cls, servers: Running, crowds: Sequence[Crowd]) -> "Footprint":
        """As it is now."""
        return cls(servers.rss(), rss_bytes([crowd.pid for crowd in crowds]), MachineMemory.now())

    def since(self, before: "Footprint", devices: int) -> dict[str, float]:
        """What was added for each device, in KiB.

        Returns:
            `rss_kib`, the servers'; `slab_kib` and `tcp_kib`, the kernel's for both ends of a connection; and
            `rest_kib`, what the machine lost beyond the servers' and the devices' processes.
        """
        lost = before.machine.available - self.machine.available
        servers, crowds = self.servers - before.servers, self.crowds - before.crowds
        added = {
            "rss_kib": servers,
            "slab_kib": self.machine.slab - before.machine.slab,
            "tcp_kib": self.machine.tcp - before.machine.tcp,
            "rest_kib": lost - servers - crowds,
        }
        return {name: size / 1024 / devices for name, size in added.items()}


def look(servers: Sequence[Running]) -> list[dict[str, float]]:
    """What `/metrics` of each says."""
    return [server.metrics() for server in servers]


def pauses(
    phase: str, before: Sequence[dict[str, float]], after: Sequence[dict[str, float]]
) -> dict[str, float]:
    """The collector's pauses in a phase, at all servers: how many, and the longest."""
    found = [collector_pauses(*each) for each in zip(before, after, strict=True)]
    return {
        f"{phase}_gc_pauses": sum(each.get("gc_pauses", 0.0) for each in found),
        f"{phase}_gc_pauses_ms": sum(each.get("gc_pauses_ms", 0.0) for each in found),
        f"{phase}_gc_longest_ms": max(each.get("gc_longest_ms", 0.0) for each in found),
    }
