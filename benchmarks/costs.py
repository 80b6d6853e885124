"""What single things cost, for docs/scaling.md: ``python -m benchmarks.costs``.

Each figure is the median of a few rounds. CPU is the process's own, or that of Redis; memory is what a
process grows by.
"""

import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import attrs
import click

from benchmarks.client import Client
from benchmarks.flood import flooding
from benchmarks.model import DeviceSpec, devices_of
from benchmarks.running import Running, running
from benchmarks.scenarios.common import SOURCE, WINDOW, Crowds
from benchmarks.servers import SERVERS, Server
from benchmarks.setup import Setup

CONNECT_SECONDS = 90.0
CALM_SECONDS = 1.0
PING_SECONDS = 2
"""The ping interval while pings are measured."""
FLOOD_RATE = 1500
FLOOD_BATCH = 50
FLOOD_USERS = 1000
FLOOD_SECONDS = 8.0

Costs = dict[str, float]


def redis_memory(server: Running) -> int:
    """Bytes that Redis has in use; 0 without one."""
    if server.redis is None:
        return 0
    with socket.create_connection(("127.0.0.1", server.redis.port), timeout=5) as sock:
        sock.sendall(b"INFO memory\r\n")
        answer = b""
        while b"used_memory_dataset" not in answer:
            answer += sock.recv(65536)
    (line,) = [line for line in answer.split(b"\r\n") if line.startswith(b"used_memory:")]
    return int(line.split(b":")[1])


def connections(server: Server, devices: int) -> Costs:
    """A process, a connection, and with Redis a user followed: half as many as devices."""
    with running(server) as node:
        time.sleep(CALM_SECONDS)
        empty = node.rss()
        crowds = Crowds(node)
        try:
            crowds.grow(200, CONNECT_SECONDS)  # warm-up
            time.sleep(CALM_SECONDS)
            rss, memory = node.rss(), redis_memory(node)
            redis_cpu = 0 if node.redis is None else node.redis.cpu()
            spent = crowds.grow(200 + devices, CONNECT_SECONDS)
            time.sleep(CALM_SECONDS)
            costs = {
                "a process without connections, MiB": empty / 2**20,
                "CPU per connection made, µs": spent / 1000 / devices,
                "memory per connection, KiB": (node.rss() - rss) / 1024 / devices,
            }
            if node.redis is not None:
                costs["Redis: CPU per connection made, µs"] = (node.redis.cpu() - redis_cpu) / 1000 / devices
                costs["Redis: memory per user followed and known, bytes"] = (redis_memory(node) - memory) / (
                    devices / 2
                )
            return costs
        finally:
            crowds.close()


def pings(server: Server, devices: int) -> Costs:
    """A ping and its pong."""

    with running(server, Setup(ping_interval=PING_SECONDS)) as node:
        crowds = Crowds(node)
        try:
            crowds.grow(devices, CONNECT_SECONDS)
            time.sleep(2 * PING_SECONDS)
            before, rounds = node.cpu(), 4
            time.sleep(rounds * PING_SECONDS)
            return {"CPU per ping and pong, µs": (node.cpu() - before) / 1000 / devices / rounds}
        finally:
            crowds.close()


def arrivals(server: Server) -> Costs:
    """An event that is published at one node and arrives at another, of whose devices none wants it."""
    specs = [attrs.evolve(spec, vaults=()) for spec in devices_of("other", 0, FLOOD_USERS, per_user=1)]
    with running(server) as node, running(server, beside=node) as other:
        alone = flood(node, other)
        with connected(node, specs):
            followed = flood(node, other)
    return {
        "CPU per event published in batches of 50, µs": alone["other"],
        "CPU per event that arrives, µs": followed["node"],
        "Redis: CPU per event published, µs": alone["redis"],
        "Redis: CPU per event told to a node, µs": followed["redis"] - alone["redis"],
    }


def connected(node: Running, specs: list[DeviceSpec]) -> "Connected":
    """Devices that are told nothing, as a context."""
    return Connected(node, specs)


@attrs.define
class Connected:
    """Keeps devices connected."""

    node: Running
    specs: list[DeviceSpec]
    _client: Client | None = None

    def __enter__(self) -> None:
        self._client = Client(self.node.target, SOURCE)
        self._client.connect(self._client.prepare(self.specs), window=WINDOW, timeout=CONNECT_SECONDS)
        time.sleep(CALM_SECONDS)

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()


def flood(node: Running, other: Running) -> Costs:
    """Publish at the other node for a while; CPU per event of all three, in microseconds."""
    redis = node.redis
    assert redis is not None
    with flooding(other.target.internal_port, FLOOD_RATE, FLOOD_BATCH) as flooded:
        time.sleep(CALM_SECONDS)
        before = node.cpu(), other.cpu(), redis.cpu()
        began = time.monotonic()
        time.sleep(FLOOD_SECONDS)
        spent = node.cpu() - before[0], other.cpu() - before[1], redis.cpu() - before[2]
        seconds = time.monotonic() - began
        rate = flooded.finish()
    events = rate * seconds
    return {name: cpu / 1000 / events for name, cpu in zip(("node", "other", "redis"), spent, strict=True)}


def rounds_of(measure: Callable[[], Costs], rounds: int) -> Iterator[tuple[str, float, float, float]]:
    """Measure several times; name, median, smallest and largest of each figure."""
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, value in measure().items():
            figures[name].append(value)
    for name, values in figures.items():
        yield name, statistics.median(values), min(values), max(values)


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--devices", default=5000, show_default=True, type=click.IntRange(100, 15000))
def main(rounds: int, devices: int) -> None:
    """Measure what single things cost, with the memory engine and with Redis."""
    memory, redis = SERVERS["localful-lean"], SERVERS["localful-redis"]
    parts: list[tuple[str, Callable[[], Costs]]] = [
        ("memory engine", lambda: connections(memory, devices)),
        ("Redis engine", lambda: connections(redis, devices)),
        ("memory engine", lambda: pings(memory, devices)),
        ("Redis engine", lambda: arrivals(redis)),
    ]
    click.echo("| engine | | median | from | to |\n|---|---|--:|--:|--:|")
    for engine, measure in parts:
        for name, median, least, most in rounds_of(measure, rounds):
            click.echo(f"| {engine} | {name} | {median:,.1f} | {least:,.1f} | {most:,.1f} |")


if __name__ == "__main__":
    main()
