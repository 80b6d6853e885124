"""One user with very many devices: what telling one device of one event costs."""

import time

import attrs

from benchmarks.model import DeviceSpec, Event, EventSource, Routes, devices_of, vaults_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of, publisher_of
from benchmarks.sizes import Sizes

USER = "fan-000000"
ORIGIN = "group-of-the-writer"
BYSTANDERS = 20
WARM_UP = 10


def population(routes: Routes, devices: int) -> list[DeviceSpec]:
    """The devices that must be told, and as many kinds that must not as the server can tell apart."""
    told = list(devices_of("fan", 0, devices, per_user=devices))
    others = list(devices_of("bystander", 0, BYSTANDERS))
    writer = attrs.evolve(told[0], group=ORIGIN)
    elsewhere = attrs.evolve(told[0], group="group-elsewhere", vaults=told[0].vaults[1:])
    return {
        Routes.EVERYBODY: told,
        Routes.USER: told + others,
        Routes.CONTRACT: [*told, *others, writer, elsewhere],
    }[routes]


def run(server: Running, sizes: Sizes, _limit: int, _alternation: int) -> Result:
    """Publish one event at a time, each when the last is everywhere; then the same in bursts.

    CPU per delivered event is all of the server's CPU time in the phase, the HTTP request included, divided
    by the deliveries. A burst is one request with a batch (nchan: as many requests, pipelined).
    """
    metrics: dict[str, float] = {}
    with client_of(server) as client:
        devices = client.prepare(population(server.target.routes, sizes.fanout_devices))
        client.connect(devices, window=WINDOW, timeout=sizes.connect_timeout)
        source = EventSource()
        with publisher_of(client) as publisher:
            for phase, rounds, together in (
                ("single", sizes.fanout_single, 1),
                ("burst", sizes.fanout_bursts, sizes.burst),
            ):

                def batch(together: int = together) -> list[Event]:
                    return [source.make(USER, vaults_of(USER)[0], ORIGIN) for _index in range(together)]

                for _round in range(WARM_UP // together + 2):
                    publisher.publish_and_wait(batch(), sizes.delivery_timeout)
                batches = [batch() for _round in range(rounds)]
                client.settle(0.1)
                started, before, posts = time.monotonic(), server.cpu(), publisher.posts
                deliveries = sum(
                    publisher.publish_and_wait(events, sizes.delivery_timeout) for events in batches
                )
                client.settle(0.02)
                metrics[f"{phase}_us"] = (server.cpu() - before) / 1000 / deliveries
                metrics[f"{phase}_posts"] = publisher.posts - posts
                metrics[f"{phase}_deliveries"] = deliveries
                metrics[f"{phase}_per_second"] = deliveries / (time.monotonic() - started)
            client.settle(0.3)
            posts = publisher.posts
        return Result(metrics=metrics, checked=client.ledger.verify(), posts=posts)
