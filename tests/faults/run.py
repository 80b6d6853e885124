"""A run: nodes, Redis, devices and publishers under a plan of faults, and whether anything was lost."""

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import count
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Protocol
from urllib.parse import quote

import httpx
import trio
from attrs import Factory, define, frozen

from .client_devices import ClientDevice
from .devices import Authenticated, Device, Ended, Received, Renewed
from .nodes import Node, make_token
from .plan import NODES, Fault
from .publisher import Publisher, make_http
from .reader import Rules, Stream

DEVICES = 50
CLIENTS = 12
"""So many of them are on the project's own client."""
# The last two have what must not mix up the keys in Redis.
USERS = ("ada", "bob", "cleo", "dora", "emil", "fay", "g{u}s", "h %7D é")
GROUPS = ("phone", "laptop", "tablet")
VAULTS = ("v0", "v1", "v2", "v3")
CALM_WITHIN = 60.0
"""Seconds within which every device must have everything once the faults are over."""
MARK_AGAIN_AFTER = 2.0


Settings = Mapping[str, str | int | float]


@frozen
class Mode:
    """How much is kept for devices that were away.

    Attributes:
        settings: The settings of the nodes.
        rules: What may happen to devices.
        may_log_errors: Whether nodes may log errors, though no tracebacks: what goes wrong is for somebody to
            mend.
    """

    settings: Settings
    rules: Rules
    may_log_errors: bool = False


SETTINGS: Settings = {
    "redis-timeout": 1,
    "redis-retry": 0.5,
    "publish-timeout": 2,
    "max-connections-per-user": 100,
}


@define
class Outcome:
    """What a run came to.

    Attributes:
        complaints: What is wrong.
        figures: What happened, in numbers.
        calm_after: Seconds from the last fault until every device had everything.
        notes: What else helps to understand it.
    """

    complaints: list[str] = Factory(list)
    figures: dict[str, int] = Factory(dict)
    calm_after: float = math.nan
    notes: list[str] = Factory(list)


class Weather(Protocol):
    """Carries out a plan."""

    async def run(self, plan: Sequence[Fault]) -> None:
        """Carry out a whole plan; afterwards everything runs again."""


@define(eq=False)
class Run(ABC):
    """A run in the making.

    Attributes:
        seed: Makes the plan and all that is drawn.
        seconds: How long there are faults.
        mode: How much is kept.
        directory: Where what everybody saw is written.
        keep: Whether it is written even if nothing is wrong.
        outcome: What it has come to.
        storm_began: When the first second of the plan began, on Trio's clock.
        nodes: The nodes, by name.
        devices: The devices.
        streams: The users' streams, in the end.
    """

    seed: int
    seconds: float
    mode: Mode
    directory: Path
    keep: bool = False
    outcome: Outcome = Factory(Outcome)
    storm_began: float = math.nan
    nodes: dict[str, Node] = Factory(dict)
    devices: list[Device] = Factory(list)
    streams: dict[str, Stream] = Factory(dict)

    @property
    @abstractmethod
    def plan(self) -> list[Fault]:
        """The faults."""

    @abstractmethod
    def open_redis(self) -> AbstractContextManager[str]:
        """Run Redis for the length of a block; the setting ``engine`` comes back."""

    @abstractmethod
    def make_storm(self, processes: trio.Nursery) -> Weather:
        """Make what carries the plan out; what the nodes write is read in ``processes``."""

    @abstractmethod
    def make_publishers(self, http: httpx.AsyncClient) -> list[Publisher]:
        """Make the publishers."""

    @abstractmethod
    def accompany(self, nursery: trio.Nursery) -> None:
        """Start what else goes on from before the first fault until all is quiet again."""

    @abstractmethod
    async def conclude(self, processes: trio.Nursery) -> None:
        """Do what there is to do when all is quiet and the nodes still run."""

    @abstractmethod
    async def check(self, publishers: Sequence[Publisher]) -> list[str]:
        """Read `streams`, and say what is wrong; the nodes are gone by then, and Redis is not."""

    async def run(self) -> None:
        """Do it all, and check; see `outcome`."""
        with self.open_redis() as url:
            self.nodes = {name: Node(name, {**self.mode.settings, "engine": url}) for name in NODES}
            self.devices = make_devices(self.seed, self.nodes)
            try:
                with trio.fail_after(self.seconds + 3 * CALM_WITHIN):
                    await self._run()
            except BaseException:
                self.write_down()
                raise
            finally:
                with trio.CancelScope(shield=True):
                    for node in self.nodes.values():
                        await node.kill()

    async def _run(self) -> None:
        async with trio.open_nursery() as processes:
            for node in self.nodes.values():
                await node.start(processes)
            publishers = await self._go_through(self.make_storm(processes))
            await self.conclude(processes)
            for node in self.nodes.values():
                await node.kill()
        self.outcome.complaints += await self.check(publishers)
        for node in self.nodes.values():
            self.outcome.complaints += node.complaints(errors=not self.mode.may_log_errors)
        if math.isnan(self.outcome.calm_after):
            self.outcome.complaints.append(
                f"after {CALM_WITHIN:g} s there were still devices without the last events"
            )
        self.outcome.figures |= figures(self.nodes, self.devices, publishers)
        if self.outcome.complaints or self.keep:
            self.write_down()

    def write_down(self) -> None:
        """Write down what everybody saw."""
        for user, stream in self.streams.items():
            (self.directory / f"stream-{quote(user)}.log").write_text("\n".join(map(str, stream.entries)))
        for node in self.nodes.values():
            (self.directory / f"node-{node.name}.log").write_text("\n".join(node.output))
        for device in self.devices:
            self.write_log(device, f"device-{device.number}.log")
        (self.directory / "complaints.json").write_text(json.dumps(self.outcome.complaints, indent=1))

    def write_log(self, device: Device, file: str) -> None:
        """Write down what a device was told."""
        told = [*zip(device.times, map(str, device.log), strict=True), *device.remarks]
        lines = [f"{time - self.storm_began:8.3f} {text}" for time, text in sorted(told, key=itemgetter(0))]
        (self.directory / file).write_text("\n".join([device.name, *lines]))

    async def _go_through(self, storm: Weather) -> list[Publisher]:
        """Have devices and publishers at work while there are faults, and until all is quiet."""
        async with trio.open_nursery() as nursery, make_http() as http:
            for device in self.devices:
                nursery.start_soon(device.run)
            self.accompany(nursery)
            with trio.fail_after(CALM_WITHIN):
                for device in self.devices:
                    await device.authenticated.wait()
            stormy = trio.Event()
            publishers = self.make_publishers(http)
            async with trio.open_nursery() as publishing:
                for publisher in publishers:
                    publishing.start_soon(publisher.run, stormy.is_set)
                self.storm_began = trio.current_time()
                await storm.run(self.plan)
                stormy.set()
                calming = trio.current_time()
                publishing.cancel_scope.deadline = calming + CALM_WITHIN
            with trio.move_on_after(CALM_WITHIN):
                # What a publisher was told is accepted comes before its marker. The second round comes after
                # whatever might still have been on its way twice.
                for marker in ("last", "after the last"):
                    await self._mark(publishers, self.devices, marker)
                self.outcome.calm_after = trio.current_time() - calming
            nursery.cancel_scope.cancel()
        return publishers

    async def _mark(self, publishers: Sequence[Publisher], devices: Sequence[Device], marker: str) -> None:
        """Publish markers to the users of each publisher, and wait until all their devices have them.

        Where a device may have been told that it missed something, the marker may be among that, and is
        published again.
        """
        for attempt in count(1):
            names = [f"{marker} of {publisher.name}, {attempt}" for publisher in publishers]
            for publisher, name in zip(publishers, names, strict=True):
                await publisher.mark(name)
            with trio.move_on_after(
                math.inf if self.mode.rules.always_resumes else MARK_AGAIN_AFTER
            ) as waiting:
                for publisher, name in zip(publishers, names, strict=True):
                    for device in devices:
                        if device.user in publisher.users:
                            await device.marker(name).wait()
            if not waiting.cancelled_caught:
                return


def make_devices(seed: int, nodes: Mapping[str, Node]) -> list[Device]:
    """The devices of a seed: some of every user, token groups shared, subscriptions that overlap."""
    random = Random(f"{seed} devices")
    addresses = {name: (node.host, node.port) for name, node in nodes.items()}
    return [
        (ClientDevice if number < CLIENTS else Device)(
            number,
            USERS[number % len(USERS)],
            random.choice(GROUPS),
            tuple(random.sample(VAULTS, random.randint(0, len(VAULTS)))),
            addresses,
            make_token,
            Random(f"{seed} device {number}"),
        )
        for number in range(DEVICES)
    ]


def figures(
    nodes: Mapping[str, Node], devices: Sequence[Device], publishers: Sequence[Publisher]
) -> dict[str, int]:
    """What happened, in numbers."""
    counts: Counter[str] = Counter()
    counts["events accepted"] = sum(len(each.published) for each in publishers)
    counts["publishes repeated"] = sum(each.repeats for each in publishers)
    counts["starts of nodes"] = sum(node.lives for node in nodes.values())
    for device in devices:
        for record in device.log:
            match record:
                case Received():
                    counts["events delivered"] += 1
                case Renewed():
                    counts["renewed"] += 1
                case Authenticated(resumed=resumed):
                    counts["authenticated"] += 1
                    if resumed is not None:
                        counts["resumed" if resumed else "not resumed"] += 1
                case Ended(code=code) if code is not None:
                    counts[f"closed {code}"] += 1
    return dict(counts)
