"""A node that reads the intake, and an engine that it publishes to."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing
from attrs import Factory, define, field

from localful_ws.engine import Receipt
from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.intake import IntakeCounts, run_intake
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.link import Link, Message
from localful_ws.engine.redis.lua import Script
from localful_ws.engine.redis.servers import Servers
from localful_ws.engine.redis.shard import Shard
from localful_ws.engine.redis.shards import Argument, Shards
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect, PublishLimits
from localful_ws.redis_url import parse_url

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


class _Owner:
    """Wants nothing of the servers but that they are there."""

    def subscribed(self, channels: Sequence[bytes]) -> None: ...

    def hear(self, message: Message) -> None: ...

    async def begin(self, shard: Shard, link: Link) -> None: ...

    def wrote(self, shard: Shard, script: Script, error: RedisRefusedError | None) -> None: ...

    def changed(self) -> None: ...


@asynccontextmanager
async def open_shards(
    url: str,
    kind: type[Shards] = Shards,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - what a server may take
) -> AsyncIterator[Shards]:
    """Stay connected to the servers for the length of the block, which begins when one is there."""
    shards = kind(Servers.of(parse_url(url), timeout), _Owner(), longest_pause=0.2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shards.run)
        with trio.fail_after(TIMEOUT):
            await shards.wait_for("")
        yield shards
        nursery.cancel_scope.cancel()


@define(eq=False)
class Intake:
    """The stream, and a node that reads it or not."""

    shards: Shards
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
            self.shards,
            Keys(self.prefix),
            self.limits,
            self.publisher.publish,
            self.publisher.disconnect,
            now=time.time,
            revocation_seconds=REVOCATION_SECONDS,
            counts=self.counts,
            lease_seconds=lease_seconds,
        )

    async def call(self, *command: Argument) -> Any:
        """Have Redis do something, where the stream and the lease are."""
        return await self.shards.call(self.stream, *command)

    async def add(self, *pairs: str | bytes) -> str:
        """Append an entry; returns its id."""
        entry: bytes = await self.call("XADD", self.stream, "*", *pairs)
        return entry.decode()

    async def add_at_once(self, entries: Iterable[Sequence[str]]) -> None:
        """Append many."""
        link = await self.shards.link_to(self.stream)
        replies = [link.send("XADD", self.stream, "*", *pairs) for pairs in entries]
        for reply in replies:
            await reply.wait()

    async def add_numbers(self, numbers: Iterable[int]) -> list[str]:
        """Append an event for each."""
        return [
            await self.add("event", "user-update", "user", f"u{number % 7}", "data", str(number))
            for number in numbers
        ]

    async def rejected(self) -> list[dict[str, bytes]]:
        """What was rejected."""
        return [
            {key.decode(): value for key, value in zip(texts[::2], texts[1::2], strict=True)}
            for texts in await self.rejected_texts()
        ]

    async def rejected_texts(self) -> list[list[bytes]]:
        """The fields and values of what was rejected."""
        key = f"{self.stream}:rejected"
        return [texts for _, texts in await self.shards.call(key, "XRANGE", key, "-", "+")]

    async def pending(self) -> int:
        """How many were taken and not removed."""
        count, *_ = await self.call("XPENDING", self.stream, "localful")
        return int(count)

    async def wait_empty(self) -> None:
        """Wait until every entry is removed."""
        with trio.fail_after(TIMEOUT):
            while await self.call("XLEN", self.stream):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.002)

    async def wait_idle(self) -> None:
        """Wait until the node waits for entries."""
        with trio.fail_after(TIMEOUT):
            while b"\r\nblocked_clients:0\r\n" in await self.call("INFO", "clients"):  # noqa: ASYNC110
                await trio.sleep(0.002)

    async def wait_held(self) -> None:
        """Wait until a node has the lease."""
        with trio.fail_after(TIMEOUT):
            while not await self.is_held():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.002)

    async def is_held(self) -> bool:
        return bool(await self.call("EXISTS", self.lease))


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
