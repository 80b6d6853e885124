"""A node that reads the intake, and an engine that it publishes to."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from attrs import Factory, define, field
from localful_ws.engine.redis.clients import RedisClient

from localful_ws.engine import Receipt
from localful_ws.engine.redis.intake import IntakeCounts, run_intake
from localful_ws.engine.redis.keys import Keys
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect, PublishLimits
from tests.redis_server import RedisServer

TIMEOUT = 10.0

Hook = Callable[[Sequence[Event]], Any]
REVOCATION_SECONDS = 60.0


@define(eq=False)
class Publisher:
    """An engine that accepts events, each id once.

    Attributes:
        batches: What was asked to be accepted.
        events: What was accepted.
        all: What was accepted, events and disconnects, in order.
        before: Awaited before a batch is accepted; may refuse it. Of a disconnect it is told no events.
        after: Awaited once it is.
    """

    batches: list[Sequence[Event]] = Factory(list)
    events: list[Event] = Factory(list)
    all: list[Event | Disconnect] = Factory(list)
    before: Hook | None = None
    after: Hook | None = None
    _ids: set[tuple[str, str | None]] = Factory(set)
    _changed: trio.Event = field(factory=trio.Event)

    async def publish(self, events: Sequence[Event]) -> Receipt:
        self.batches.append(events)
        if self.before is not None:
            await self.before(events)
        new = [event for event in events if (event.user, event.id) not in self._ids]
        self._ids |= {(event.user, event.id) for event in events}
        self.events += new
        self.all += new
        self._changed.set()
        self._changed = trio.Event()
        if self.after is not None:
            await self.after(events)
        return Receipt(len(new), len(events) - len(new))

    async def disconnect(self, disconnect: Disconnect) -> None:
        if self.before is not None:
            await self.before([])
        self.all.append(disconnect)
        if self.after is not None:
            await self.after([])

    @property
    def numbers(self) -> list[int]:
        """The data of what was accepted."""
        return [json.loads(event.data) for event in self.events]

    async def wait(self, count: int) -> None:
        """Wait until so many are accepted."""
        with trio.fail_after(TIMEOUT):
            while len(self.events) < count:
                await self._changed.wait()


@define(eq=False)
class Intake:
    """The stream, and a node that reads it or not."""

    client: RedisClient
    server: RedisServer
    prefix: str
    publisher: Publisher = Factory(Publisher)
    counts: IntakeCounts = Factory(IntakeCounts)
    limits: PublishLimits = Factory(PublishLimits)

    @property
    def stream(self) -> str:
        return f"{self.prefix}:intake"

    @property
    def lease(self) -> str:
        return f"{self.prefix}:{{{self.stream}}}:reader"

    async def run(self, *, lease_seconds: float = 3.0) -> None:
        """Be a node."""
        await run_intake(
            self.client,
            Keys(self.prefix),
            self.limits,
            self.publisher.publish,
            self.publisher.disconnect,
            now=time.time,
            revocation_seconds=REVOCATION_SECONDS,
            counts=self.counts,
            lease_seconds=lease_seconds,
        )

    async def add(self, *pairs: str | bytes) -> str:
        """Append an entry; returns its id."""
        fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
        entry: Any = await self.client.xadd(self.stream, fields)
        return str(entry.decode())

    async def add_numbers(self, numbers: Iterable[int]) -> list[str]:
        """Append an event for each."""
        return [
            await self.add("event", "user-update", "user", f"u{number % 7}", "data", str(number))
            for number in numbers
        ]

    async def rejected(self) -> list[dict[str, bytes]]:
        """What was rejected."""
        entries: Any = await self.client.xrange(f"{self.stream}:rejected")
        return [{key.decode(): value for key, value in entry.field_values.items()} for entry in entries]

    async def wait_empty(self) -> None:
        """Wait until every entry is removed."""
        with trio.fail_after(TIMEOUT):
            while True:
                if not await self.client.xlen(self.stream):
                    return
                await trio.sleep(0.002)

    async def wait_idle(self) -> None:
        """Wait until the node waits for entries."""
        with trio.fail_after(TIMEOUT):
            while True:
                info: Any = await self.client.info("clients")
                if info["blocked_clients"]:
                    return
                await trio.sleep(0.002)

    async def is_held(self) -> bool:
        return bool(await self.client.exists([self.lease]))


@asynccontextmanager
async def running(*intakes: Intake, lease_seconds: float = 3.0) -> AsyncIterator[trio.Nursery]:
    """Run nodes for the length of the block."""
    async with trio.open_nursery() as nursery:
        for intake in intakes:

            async def run(intake: Intake = intake) -> None:
                await intake.run(lease_seconds=lease_seconds)

            nursery.start_soon(run)
        yield nursery
        nursery.cancel_scope.cancel()
