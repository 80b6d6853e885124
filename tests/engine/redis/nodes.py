"""Several nodes over one Redis, each with an engine of its own and devices that note what they are told."""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import Factory, define, field

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Entry, Position, Presence, Receipt
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.settings import Settings
from tests.world import make_settings

SECONDS = 10.0


def update(number: int, user: str = "ada", **changes: Any) -> Event:
    """An event whose data is a number."""
    return Event(EventName.USER_UPDATE, user, None, None, b"%d" % number, **changes)


def number_of(entry: Entry) -> int:
    """The number in an event's data."""
    return int(entry.event.data.strip(b'" '))


@define(eq=False)
class Device:
    """What one device is told.

    Attributes:
        user: Whose it is.
        numbers: The data of its events.
        cursor: Where it is in its user's stream.
        resumed: Whether it could go on where it was; None if it did not ask.
        lost: Whether the node said that it had missed something.
        stay: How often it has left.
    """

    user: str
    numbers: list[int] = Factory(list)
    cursor: str = ""
    resumed: bool | None = None
    lost: bool = False
    stay: int = 0

    def take(self, entry: Entry) -> None:
        """Be told of an event."""
        self.numbers.append(number_of(entry))
        self.cursor = entry.cursor


@define(eq=False)
class FakeNode:
    """A node without a server.

    Attributes:
        engine: Its engine.
        devices: Those that are there, by their users.
        revoked: What it was told to refuse, now or when Redis was reached.
        recalled: How many of them at a time when Redis was reached.
        gate: While it is clear, nothing is routed.
        numbers: The data of all that was routed.
        handed: How many events it was handed.
    """

    engine: RedisEngine
    devices: dict[str, list[Device]] = Factory(dict)
    revoked: list[Disconnect] = Factory(list)
    recalled: list[int] = Factory(list)
    gate: trio.Event = field(factory=trio.Event)
    numbers: list[int] = Factory(list)
    handed: int = 0
    _changed: trio.Event = field(factory=trio.Event)

    # --- what the engine asks ---

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        asked = [
            (entry, [(device, device.stay) for device in self.devices.get(entry.event.user, ())])
            for entry in entries
        ]
        self.handed += len(entries)
        self._tell()
        if not self.gate.is_set():
            await self.gate.wait()
        for entry, devices in asked:
            self.numbers.append(number_of(entry))
            for device, stay in devices:
                if device.stay == stay:
                    device.take(entry)
        self._tell()

    def devices_of(self, user: str, vaults: int) -> list[Presence]:
        subscription = tuple(f"v{number}" for number in range(5))
        return [Presence(user, 1.5, 5, subscription[:vaults]) for _ in self.devices.get(user, ())]

    def refuse(self, disconnects: Sequence[Disconnect]) -> None:
        raise AssertionError("Redis sees to the limit")

    def remember(self, disconnects: Sequence[Disconnect]) -> None:
        self.revoked += disconnects
        self._tell()

    def close(self, disconnect: Disconnect) -> int:
        closed = list(self.devices.get(disconnect.user or "", []))
        for device in closed:
            self.leave(device)
        self._tell()
        return len(closed)

    def recall(self, disconnects: Sequence[Disconnect]) -> None:
        self.recalled.append(len(disconnects))
        self.remember(disconnects)

    def lose(self, user: str) -> int:
        devices = list(self.devices.get(user, ()))
        for device in devices:
            device.lost = True
            self.leave(device)
        self._tell()
        return len(devices)

    # --- what devices do ---

    async def join(self, device: Device, *, since: bool = False) -> Device:
        """Come, or come back."""

        def begin(position: Position) -> None:
            device.resumed = position.missed is not None if since else None
            device.lost = False
            for entry in position.missed or ():
                device.take(entry)
            device.cursor = position.cursor
            self.devices.setdefault(device.user, []).append(device)

        await self.engine.join(device.user, device.cursor if since else None, begin)
        return device

    def leave(self, device: Device) -> None:
        """Go."""
        device.stay += 1
        self.devices[device.user].remove(device)
        self.engine.leave(device.user)

    # --- what tests do ---

    async def publish(self, *events: Event) -> Receipt:
        return await self.engine.publish(events)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, looking whenever something has happened here."""
        with trio.fail_after(SECONDS):
            while not condition():
                await self._changed.wait()

    def figure(self, name: str) -> float:
        """One of the engine's figures that has no label."""
        value = {figure.name: figure.value for figure in self.engine.figures()}[name]
        assert isinstance(value, int | float)
        return value

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells of."""
    with trio.fail_after(SECONDS):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)


async def publish_surely(node: FakeNode, *events: Event) -> None:
    """Publish as publishers should: with ids, again and again until it is accepted."""
    assert all(event.id for event in events)
    with trio.fail_after(SECONDS):
        while True:
            try:
                await node.publish(*events)
            except EngineUnavailableError:
                await trio.sleep(0.02)
            else:
                return


def redis_settings(url: str, prefix: str, **changes: Any) -> Settings:
    """Settings for a short life."""
    common: dict[str, Any] = {"redis_timeout": 1.0, "redis_retry": 0.2, "publish_timeout": 2.0}
    return make_settings(engine=url, redis_prefix=prefix, intake="off", **(common | changes))


@asynccontextmanager
async def open_nodes(
    url: str, prefix: str = "", *, count: int = 2, **changes: Any
) -> AsyncIterator[list[FakeNode]]:
    """Run so many nodes for the length of the block."""
    settings = redis_settings(url, prefix or f"test-{secrets.token_hex(6)}", **changes)
    nodes = [FakeNode(RedisEngine(settings, Clock())) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            node.gate.set()
            await nursery.start(node.engine.run, node)
        yield nodes
        for node in nodes:
            node.gate.set()
            await node.engine.aclose()
        with trio.move_on_after(SECONDS) as scope:
            await until(lambda: not nursery.child_tasks)
        assert not scope.cancelled_caught, "an engine does not end when it is closed"
