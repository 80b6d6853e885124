"""What scenarios share: results, the devices and the ways to publish."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from benchmarks.client import Client
from benchmarks.crowd import PER_PROCESS, Crowd
from benchmarks.model import BenchmarkError, DeviceSpec, Event, EventSource
from benchmarks.publisher import Publisher
from benchmarks.running import Running

SOURCE = "127.0.0.9"
WINDOW = 64
"""How many devices connect at the same time, except in a storm."""
QUANTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 100)


@attrs.frozen
class Result:
    """What one run of a scenario against one server gave.

    Attributes:
        metrics: Figures by name; `name@N` is the figure at N connections.
        curve: Quantiles of latency in milliseconds, where latency is measured.
        checked: Deliveries that were verified.
        posts: HTTP requests to publish, all phases together.
        details: What has no median: series over time, and one by one what many of a kind did.
        failures: What must not be, though all could be measured.
    """

    metrics: dict[str, float]
    curve: dict[str, float] = attrs.field(factory=dict)
    checked: int = 0
    posts: int = 0
    details: dict[str, Any] = attrs.field(factory=dict)
    failures: tuple[str, ...] = ()


@contextmanager
def client_of(server: Running) -> Iterator[Client]:
    """The measuring client."""
    client = Client(server.target, SOURCE)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def publisher_of(client: Client, connections: int = 1) -> Iterator[Publisher]:
    """The HTTP API's side."""
    publisher = Publisher(client, connections)
    try:
        yield publisher
    finally:
        publisher.close()


class Crowds:
    """Idle devices, in as many processes as they need."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._crowds: list[Crowd] = []
        self._sizes: list[int] = []

    @property
    def size(self) -> int:
        """How many are connected."""
        return sum(self._sizes)

    def grow(self, to: int, timeout: float) -> int:
        """Connect more devices until there are `to`.

        Returns:
            Nanoseconds of the server's CPU time that it took; making the tokens is not in it.
        """
        spent = 0
        while (missing := to - self.size) > 0:
            if not self._sizes or self._sizes[-1] == PER_PROCESS:
                self._crowds.append(Crowd(self._server.target, len(self._crowds)))
                self._sizes.append(0)
            count = min(missing, PER_PROCESS - self._sizes[-1])
            crowd = self._crowds[-1]
            crowd.prepare(count)
            before = self._server.cpu()
            crowd.connect(window=WINDOW, timeout=timeout)
            time.sleep(0.1)
            spent += self._server.cpu() - before
            self._sizes[-1] += count
        return spent

    def shrink(self, to: int) -> None:
        """Drop devices until `to` are left."""
        left = to
        for index, crowd in enumerate(self._crowds):
            keep = min(left, self._sizes[index])
            if keep < self._sizes[index]:
                crowd.drop(keep)
                self._sizes[index] = keep
            left -= keep

    def check(self) -> None:
        """Let all of them look at what they got.

        Raises:
            BenchmarkError: One was told something, or isn't connected any more.
        """
        if sum(crowd.check() for crowd in self._crowds) != self.size:
            raise BenchmarkError("idle devices were lost")

    @property
    def all(self) -> Sequence[Crowd]:
        """The processes."""
        return self._crowds

    def close(self) -> None:
        """All vanish."""
        for crowd in self._crowds:
            crowd.close()


@contextmanager
def crowds_of(server: Running) -> Iterator[Crowds]:
    """Idle devices."""
    crowds = Crowds(server)
    try:
        yield crowds
    finally:
        crowds.close()


def quantiles(latencies: Sequence[float]) -> dict[str, float]:
    """The quantiles of `QUANTILES`, nearest rank, by their names.

    Raises:
        BenchmarkError: There are no latencies.
    """
    if not latencies:
        raise BenchmarkError("nothing was delivered")
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return {f"{percent:g}": ordered[round(percent / 100 * last)] for percent in QUANTILES}


class Paced:
    """Publishes at a steady rate whatever the server does, and takes the time until delivery.

    Latency counts from the moment at which an event was due, not from when it could be sent at last: a server
    that makes the publisher wait does not get away with it.

    Args:
        client: With pairs of devices connected.
        publisher: With several connections, so that one slow answer doesn't hold up the next event.
        pairs: Two devices of one user each; an event of the first one's group goes to the second.
        rate: Events a second.
        seed: For the choice of users.
        source: Where events are made; its own, unless other events go to the same devices.
    """

    def __init__(
        self,
        client: Client,
        publisher: Publisher,
        pairs: Sequence[Sequence[DeviceSpec]],
        rate: int,
        seed: int,
        *,
        source: EventSource | None = None,
    ) -> None:
        self._client = client
        self._publisher = publisher
        self._pairs = pairs
        self._interval = 1_000_000_000 // rate
        self._random = random.Random(seed)
        self._source = source or EventSource()

    def run(self, until: Callable[[float], bool]) -> list[float]:
        """Publish until `until(seconds since the start)` says so, then wait for the rest.

        Returns:
            Milliseconds from due to delivered, one for each delivery.
        """
        client, publisher = self._client, self._publisher
        due_at: dict[int, int] = {}
        arrivals: list[tuple[int, int]] = []
        client.arrivals = arrivals
        started = due = time.monotonic_ns()
        while not until((now := time.monotonic_ns()) / 1e9 - started / 1e9):
            if now < due:
                client.pump_precisely((due - now) / 1e9)
                continue
            event = self._make()
            due_at[event.number] = due
            publisher.publish([event])
            due += self._interval
        client.run_until(publisher.is_done, 30, "delivery of the last events")
        client.arrivals = None
        return [(arrived - due_at[number]) / 1e6 for number, arrived in arrivals]

    def _make(self) -> Event:
        origin, other = self._random.choice(self._pairs)
        return self._source.make(other.user, self._random.choice(other.vaults), origin.group)
