"""A world: nodes, devices, publishers, what happens to them, and whether all is as it should be."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from hashlib import blake2b
from itertools import count
from math import inf
from random import Random
from typing import Any

import trio
from attrs import evolve
from trio.testing import MockClock

from localful_ws.engine import Entry
from localful_ws.protocol import Event, EventName
from localful_ws.settings import Settings

from .agenda import Agenda
from .blows import Blows
from .checks import Checks
from .client_device import ClientDevice
from .device import Device
from .following import Follower
from .handover import Handovers
from .kernel import Kernel
from .network import Link
from .nodes import KEY, SimulatedNode
from .plan import Plan
from .publisher import Published, Publisher
from .redis import SimulatedRedis
from .tokens import SECRET
from .truth import Place, Truth, number_in, read_place

STARTED = 1_700_000_000.0
"""The time of day at which every world begins."""

_CALM_WITHIN = 200.0
_LEAVE_WITHIN = 60.0


class World:
    """One world.

    Args:
        plan: What it is made of.
        verbose: Called with each line of what happens; None if nobody wants it.
    """

    def __init__(self, plan: Plan, verbose: Any = None) -> None:
        self.plan = plan
        self.agenda = Agenda(plan.grid)
        self.truth = Truth()
        self.checks = Checks(self)
        self.complaints: list[str] = []
        self.digest = blake2b(digest_size=16)
        self.lines = 0
        self.delivered = 0
        self.resumes: Counter[bool | None] = Counter()
        self.closes: Counter[int | str] = Counter()
        self.errors: Counter[str] = Counter()
        self.refusals: Counter[int] = Counter()
        self.publishes: Counter[int] = Counter()
        self.deeds: Counter[str] = Counter()
        values: dict[str, Any] = {"max_connections": 1000, "intake": "off", "drain_seconds": 2.0}
        self.settings = Settings(jwt_secret=SECRET, publisher_key=KEY, **values | dict(plan.settings))
        self.users = [f"u{number}" for number in range(plan.users)]
        self.vaults = [f"v{number}" for number in range(plan.vaults)]
        self.nodes: list[SimulatedNode | None] = [None] * plan.nodes
        self.past: list[SimulatedNode] = []
        self.devices: list[Device] = []
        self.clients: list[ClientDevice] = []
        self.publishers: list[Publisher] = []
        self.published: dict[int, Published] = {}
        self.links: list[Link] = []
        self.redis: SimulatedRedis | None = None
        self.redis_disturbed = -inf
        self.handovers = Handovers(self)
        self.wall_offset = 0.0
        self.stepped = False
        self.jumps: list[float] = []
        self.node_log: list[MutableMapping[str, Any]] = []
        self.calm = False
        self._verbose = verbose
        self._numbers = count(1)
        self._generations = Counter[tuple[str, int]]()
        self._nursery: trio.Nursery | None = None
        self._clock = trio.lowlevel.current_clock()

    # --- what its parts need ---

    def log(self, who: str, what: object) -> None:
        """Write down what happens: two runs of one seed write the same."""
        line = f"{trio.current_time():.9f} {who}: {what}"
        self.digest.update(line.encode())
        self.lines += 1
        if self._verbose is not None:
            self._verbose(line)

    def complain(self, complaint: str) -> None:
        """Say that something is wrong."""
        self.log("WRONG", complaint)
        self.complaints.append(f"{trio.current_time():.6f} {complaint}")

    def wall(self) -> float:
        """The time of day."""
        return STARTED + trio.current_time() + self.wall_offset

    def jump(self, seconds: float) -> None:
        """Let time pass without anybody being able to do anything in it."""
        self.log("clock", f"jumps {seconds:.3f} s")
        self.jumps.append(trio.current_time() + seconds)
        assert isinstance(self._clock, MockClock)
        self._clock.jump(seconds)

    def step_wall_clock(self, seconds: float) -> None:
        """Put the time of day forward or back, as whoever corrects a clock does."""
        self.wall_offset += seconds
        self.stepped = True
        self.log("clock", f"is {self.wall_offset:.3f} s off")
        self.jumps.append(trio.current_time())
        self.redis_disturbed = trio.current_time()

    def jumped_since(self, moment: float) -> bool:
        """Whether the clock jumped since then."""
        return bool(self.jumps) and self.jumps[-1] >= moment

    def next_number(self) -> int:
        """A number for an event."""
        return next(self._numbers)

    def groups_of(self, user: str) -> Sequence[str]:
        """A user's token groups that are in use; one that was revoked is replaced by another login."""
        return [self._group(user, number) for number in range(self.plan.groups)]

    def _group(self, user: str, number: int) -> str:
        # Users have groups of the same ids: a login is both.
        generation = self._generations[user, number]
        return f"g{number}-{generation}" if generation else f"g{number}"

    def group_in_use(self, device: Device) -> str:
        """The token group of the login that a device has now."""
        groups = self.groups_of(device.user)
        return device.group if device.group in groups else groups[hash_of(device.name) % len(groups)]

    def log_in_anew(self, user: str | None, group: str | None) -> None:
        """After a revocation of a login, its devices log in again, as another group."""
        for each in self.users if user is None else [user]:
            for number in range(self.plan.groups):
                if group == self._group(each, number):
                    self._generations[each, number] += 1

    def pick_node(self, random: Random) -> SimulatedNode | None:
        """A node that serves."""
        there = [node for node in self.nodes if node is not None and node.ready and not node.draining]
        return random.choice(there) if there else None

    def make_link(self, random: Random) -> Link:
        """A connection."""
        network = self.plan.network
        if self.calm:
            network = evolve(network, delay=(0.0, min(0.02, network.delay[1])), window=65536)
        link = Link(self.agenda, Random(random.random()), network)
        self.links.append(link)
        return link

    def somebody_elses_cursor(self, random: Random, user: str) -> str | None:
        """A cursor of another user."""
        others = [
            device.follower.cursor
            for device in self.devices
            if device.user != user and device.follower.cursor is not None
        ]
        return random.choice(others) if others else None

    # --- its life ---

    async def run(self) -> None:
        """Live, from the first connection to the last, and check."""
        if self.plan.engine == "redis":
            self.redis = SimulatedRedis(
                self.agenda, Random(f"{self.plan.seed} redis"), self.wall, self.handovers
            )
            self.redis.delay = self.plan.redis_delay
            self.redis.lose_answers = self.plan.redis_loses_answers
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self.agenda.run)
            for index in range(self.plan.nodes):
                await self.start_node(index)
            self._populate()
            nursery.start_soon(self.checks.run)
            clients = await nursery.start(self._run_clients)
            blows = Blows(self, Random(f"{self.plan.seed} blows"))
            async with trio.open_nursery() as stormy:
                for publisher in self.publishers:
                    stormy.start_soon(publisher.run)
                stormy.start_soon(blows.run)
            await self._calm_down()
            await self.checks.finish()
            clients.cancel()
            await self._leave()
            for node in self.nodes:
                if node is not None:
                    node.stop()
                    await node.stopped.wait()
                    self.checks.node_gone(node)
            nursery.cancel_scope.cancel()
        self.checks.conclude()

    async def start_node(self, index: int) -> None:
        """Start a node, in the place of one that is gone."""
        assert self._nursery is not None
        name = f"node{index}"
        settings = self.settings
        if self.redis is not None:
            settings = evolve(settings, engine=f"redis://simulated/{index}")
        random = Random(f"{self.plan.seed} {name} {len(self.past)}")

        def work() -> None:
            if self.plan.work and not self.calm and random.random() < 0.5:
                self.jump(self.plan.work * random.random() ** 3)

        kernel = Kernel(lambda complaint: self.complain(f"{name}: {complaint}"), random, work)
        node = SimulatedNode(name, settings, self.wall, self._memory_accepted, kernel, random, self.plan)
        self.nodes[index] = node
        self.past.append(node)
        self.log(name, "starts")
        self._nursery.start_soon(node.run)
        await node.serving.wait()

    def _populate(self) -> None:
        plan, random = self.plan, Random(f"{self.plan.seed} devices")
        for number in range(plan.devices):
            user = self.users[number % len(self.users)]
            group = random.choice(self.groups_of(user))
            device = Device(self, number, user, group, Random(f"{plan.seed} device {number}"))
            self.devices.append(device)
            self.agenda.after(random.uniform(0, min(600.0, plan.seconds / 4)), device.connect)
        # One that finds no place waits for a minute and more before it tries again.
        for number in range(0 if self._is_crowded() else plan.clients):
            draws = Random(f"{plan.seed} client {number}")
            self.clients.append(ClientDevice(self, number, draws.choice(self.users), draws))
        for number in range(plan.publishers):
            self.publishers.append(Publisher(self, number, Random(f"{plan.seed} publisher {number}")))

    async def _run_clients(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        async with trio.open_nursery() as nursery:
            for client in self.clients:
                nursery.start_soon(client.run)
            task_status.started(nursery.cancel_scope)
            await trio.sleep_forever()

    def _memory_accepted(self, event: Event, entry: Entry) -> None:
        self.accept(event, *read_place(entry.cursor), len(entry.frame))

    def accept(self, event: Event, epoch: str, place: Place, size: int) -> None:
        """Take note that an event has its place."""
        number = number_in(json.loads(event.data))
        self.truth.accept(event, epoch, place, number, trio.current_time(), size)
        self.log(
            "truth", f"{event.user} {epoch}.{place} {event.name.value} {number} {event.vault} {event.group}"
        )
        if event.name is EventName.USER_DELETE:
            self.checks.user_deleted(event.user, self.wall())

    async def _calm_down(self) -> None:
        """Let all faults end, and wait until every device is there and has everything."""
        self.log("world", "calms down")
        self.calm = True
        if self.redis is not None:
            self.redis.up = True
            self.redis.lose_answers = 0.0
            self.redis.delay = (0.0, min(0.05, self.plan.redis_delay[1]))
        for index, node in enumerate(self.nodes):
            if node is None or node.draining or node.killed:
                if node is not None:
                    await node.stopped.wait()
                await self.start_node(index)
        for device in self.devices:
            device.calm_down()
        if not await self._within(_CALM_WITHIN, self._all_there):
            absent = [device.name for device in self.devices if not device.follower.open]
            absent += [client.name for client in self.clients if not client.there]
            self.complain(f"could not come back: {absent}")
            return
        await self._mark()
        # Whether they are read once more after a token was verified.
        for say in (Device.renew, Device.ping):
            for device in self.devices:
                say(device)
            await self._within(_CALM_WITHIN, self._all_told)

    async def _within(self, seconds: float, holds: Callable[[], bool]) -> bool:
        """Wait until something holds; whether it did in time."""
        deadline = trio.current_time() + seconds
        while not holds():
            if trio.current_time() > deadline:
                return False
            await trio.sleep(0.25)
        return True

    async def _mark(self) -> None:
        """Publish one more event of every user, which all of its devices are told of."""
        publisher = self.publishers[0]
        for user in self.users:
            event = publisher.make(EventName.USER_UPDATE, user, with_id=True)
            event.pop("group", None)
            if not await publisher.publish([event]):
                self.complain("the last event could not be published")

    def _all_there(self) -> bool:
        ready = all(node is not None and node.node.unavailable() is None for node in self.nodes)
        there = all(self._is_there(device) for device in self.devices)
        return ready and there and all(client.there or self._is_crowded() for client in self.clients)

    def _all_told(self) -> bool:
        missing = any(each.open and each.missing() for each in self.followers())
        return not missing and not any(device.unanswered() for device in self.devices)

    def followers(self) -> Iterable[Follower]:
        """What every device and client is held to."""
        return [device.follower for device in self.devices] + [client.follower for client in self.clients]

    @property
    def good_network(self) -> bool:
        """Whether what is sent arrives almost at once."""
        return self.plan.network.window >= 65536 and self.plan.network.delay[1] < 0.1

    def _is_there(self, device: Device) -> bool:
        there = device.talk is not None and device.follower.open and device.talk.told_close is None
        return there or self._is_crowded()

    def _is_crowded(self) -> bool:
        limited = {"max_connections", "max_connections_per_user"} & set(self.plan.settings)
        return bool(limited) or self.plan.devices / self.plan.users > 45

    async def _leave(self) -> None:
        for device in self.devices:
            device.leave()
        await self._within(
            _LEAVE_WITHIN, lambda: not any(node.node.devices() for node in self.nodes if node is not None)
        )
        await trio.sleep(self.settings.close_timeout + self.settings.handshake_timeout + 1)
        self.checks.all_gone()


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest())
