"""Devices that were away come back and are told what they missed: what that costs."""

from collections.abc import Sequence

from benchmarks.client import Client
from benchmarks.device import Device
from benchmarks.model import EventSource, devices_of
from benchmarks.publisher import Publisher
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of, publisher_of
from benchmarks.scenarios.meter import Meter
from benchmarks.sizes import Sizes

BATCH = 250
PAUSE = 0.5


def publish(client: Client, publisher: Publisher, devices: Sequence[Device], source: EventSource) -> None:
    """One event for each device's user; wait until all requests are answered."""
    for start in range(0, len(devices), BATCH):
        some = devices[start : start + BATCH]
        publisher.publish([source.make(device.spec.user, device.spec.vaults[0]) for device in some])
    client.run_until(publisher.is_idle, 30, "answers to the publisher")


def run(server: Running, sizes: Sizes, _limit: int, _alternation: int) -> Result:
    """Reset all connections and open them again: first without resuming, then with events that were missed.

    Each user has one device. CPU per device is all that it takes from the first connect until the last
    device has everything: accept, upgrade, `authenticate`, `authenticated`, and the missed events.
    """
    metrics: dict[str, float] = {}
    source = EventSource()
    with client_of(server) as client, publisher_of(client) as publisher:

        def reconnect(phase: str) -> None:
            for device in devices:
                missed = device.received and phase != "plain"
                device.resume_from(client.ledger.cursor_of(device.received[-1]) if missed else None)
            server.calm_down(client, PAUSE)
            meter = Meter(server)
            client.connect(devices, window=WINDOW, timeout=sizes.connect_timeout)
            client.run_until(publisher.is_done, sizes.delivery_timeout, "what was missed")
            metrics[f"{phase}_s"] = meter.seconds()
            client.settle(0.1)
            metrics.update(meter.per(phase, len(devices)))

        devices = client.prepare(devices_of("resume", 0, sizes.resume_devices, per_user=1))
        client.connect(devices, window=WINDOW, timeout=sizes.connect_timeout)
        publish(client, publisher, devices, source)
        client.run_until(publisher.is_done, sizes.delivery_timeout, "the first events")
        devices = client.send_away()
        reconnect("plain")
        devices = client.send_away()
        client.settle(PAUSE)  # until the server knows that they are gone
        for _round in range(sizes.resume_missed):
            publish(client, publisher, devices, source)
        reconnect("resume")
        metrics["missed_us"] = (metrics["resume_us"] - metrics["plain_us"]) / sizes.resume_missed
        publish(client, publisher, devices, source)
        client.run_until(publisher.is_done, sizes.delivery_timeout, "the last events")
        client.settle(0.3)
        return Result(metrics=metrics, checked=client.ledger.verify(), posts=publisher.posts)
