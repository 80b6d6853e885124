"""Hours of events and of connections that come and go: does the server grow?"""

import random
import statistics
import time
from collections import deque

import attrs
import click

from benchmarks.client import Client
from benchmarks.device import Device
from benchmarks.model import CONTENT, DeviceSpec, EventSource, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Paced, Result, client_of, publisher_of, quantiles
from benchmarks.sizes import Sizes

PUBLISHERS = 8
SAMPLES_BETWEEN_WORDS = 60

Pair = tuple[DeviceSpec, DeviceSpec]


@attrs.define
class Churn:
    """Devices that come and go at a steady rate, each a new one of a new user with two.

    Of two that go, one says goodbye and the other vanishes.

    Attributes:
        client: Whose devices they are.
        rate: How many come, and how many go, in a second.
        stay: How many are there at the same time.
        pairs: Where those are noted that may be told of events.
        made: How many have come.
    """

    client: Client
    rate: int
    stay: int
    pairs: list[Pair]
    made: int = 0
    _coming: deque[tuple[Device, Device]] = attrs.field(factory=deque)
    _there: deque[tuple[Device, Device]] = attrs.field(factory=deque)
    _turn: bool = False
    _started: float = attrs.field(factory=time.monotonic)

    def go_on(self) -> None:
        """Let as many come and go as are due."""
        due = int((time.monotonic() - self._started) * self.rate)
        while self.made + 2 <= due:
            first, second = (Device(self.client, spec) for spec in devices_of("churn", self.made, 2))
            self.made += 2
            self._coming.append((first, second))
            self.client.start(first)
            self.client.start(second)
        # Before a device is known to be authenticated, nobody knows whether it must be told.
        while self._coming and all(device.is_open for device in self._coming[0]):
            self._there.append(self._coming.popleft())
            self.pairs.append(specs_of(self._there[-1]))
        while 2 * len(self._there) > self.stay:
            pair = self._there.popleft()
            self.pairs.remove(specs_of(pair))
            # Only the second of the two is told of events, so in turn it is the one and the other.
            self._turn = not self._turn
            polite, other = pair if self._turn else reversed(pair)
            self.client.leave(polite)
            self.client.vanish(other)


def specs_of(pair: tuple[Device, Device]) -> Pair:
    """Who they are."""
    return pair[0].spec, pair[1].spec


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Publish events of random sizes to devices that stay and to devices that come and go; watch the memory.

    With each sample of the memory all that was delivered since the last one is verified. The first ten
    minutes fill what is bounded, the history for instance, which holds five; the server must not grow after.
    """
    specs = list(devices_of("soak", 0, 2 * sizes.soak_users))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    choose = random.Random(alternation)
    source = EventSource(lambda: (CONTENT * 50)[: choose.randint(0, sizes.soak_most_bytes)])
    rss: list[tuple[float, float]] = []
    slow: list[tuple[float, float]] = []
    checked = 0
    with client_of(server) as client, publisher_of(client, PUBLISHERS) as publisher:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        server.calm_down(client, sizes.settle_seconds)
        started, empty = time.monotonic(), server.rss()
        churn = Churn(client, sizes.soak_churn, sizes.soak_stay, pairs)
        paced = Paced(client, publisher, pairs, sizes.soak_rate, alternation, source=source)

        def over(seconds: float) -> bool:
            churn.go_on()
            return seconds >= sizes.soak_sample_seconds

        while time.monotonic() - started < sizes.soak_seconds:
            latencies = paced.run(over)
            checked += client.ledger.verify(ordered=False)
            client.ledger.forget()
            elapsed = round(time.monotonic() - started, 1)
            rss.append((elapsed, round(server.rss() / 2**20, 2)))
            slow.append((elapsed, round(quantiles(latencies)["99"], 3)))
            if len(rss) % SAMPLES_BETWEEN_WORDS == 0:
                click.echo(f"soak {server.server.name}: {elapsed:,.0f} s, {rss[-1][1]} MiB", err=True)
        client.run_until(client.is_settled, sizes.connect_timeout, "devices on their way")
        posts = publisher.posts
    settled = next((mib for elapsed, mib in rss if elapsed >= sizes.soak_settled_seconds), rss[-1][1])
    metrics = {
        "seconds": rss[-1][0],
        "connects": churn.made,
        "events": posts,
        "empty_mib": empty / 2**20,
        "settled_mib": settled,
        "end_mib": rss[-1][1],
        "highest_mib": max(mib for _elapsed, mib in rss),
        "p99_ms": statistics.median(milliseconds for _elapsed, milliseconds in slow),
        "slowest_p99_ms": max(milliseconds for _elapsed, milliseconds in slow),
    }
    details = {"rss_mib": rss, "p99_ms": slow}
    return Result(metrics=metrics, checked=checked, posts=posts, details=details)
