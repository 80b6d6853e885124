"""Who has servers, as tests want it, and servers in memory that answer as they are told to."""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import Factory, define, field

from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.link import Link, Message
from localful_ws.engine.redis.lua import Script
from localful_ws.engine.redis.servers import Place, Servers
from localful_ws.engine.redis.shard import Shard
from localful_ws.engine.redis.shards import Shards
from localful_ws.redis_url import parse_url

from .links import OK, Command, Remote, confirm, in_memory


@define(eq=False)
class Owner:
    """Notes what it is told.

    Attributes:
        heard: What was published.
        channels: What is subscribed to.
        begun: When a server was begun with.
        wrote_errors: What came of writes that are relied on.
        refuses: What comes of beginning, one after the other.
    """

    heard: list[Message] = Factory(list)
    channels: list[bytes] = Factory(list)
    begun: list[float] = Factory(list)
    wrote_errors: list[str] = Factory(list)
    refuses: deque[Exception] = Factory(deque)

    def subscribed(self, channels: Sequence[bytes]) -> None:
        self.channels += channels

    def hear(self, message: Message) -> None:
        self.heard.append(message)

    async def begin(self, shard: Shard, link: Link) -> None:
        self.begun.append(trio.current_time())
        if self.refuses:
            raise self.refuses.popleft()

    def wrote(self, shard: Shard, script: Script, error: RedisRefusedError | None) -> None:
        self.wrote_errors.append("" if error is None else error.code)

    def changed(self) -> None:
        return


@define(eq=False)
class FakeRedis:
    """A server.

    Attributes:
        said: How it introduces itself, other than usually.
        answers: What it answers to a command, one after the other, before it begins to say OK.
        asked: What it was asked, without what keeps a connection.
        is_there: Whether it takes connections.
        remotes: Who is connected.
    """

    said: dict[str, str] = Factory(dict)
    answers: defaultdict[bytes, deque[bytes]] = field(factory=lambda: defaultdict(deque))
    asked: list[Command] = Factory(list)
    is_there: bool = True
    remotes: list[Remote] = Factory(list)

    async def serve(self, remote: Remote) -> None:
        if not self.is_there:
            return
        await remote.greet(**self.said)
        self.remotes.append(remote)
        while True:
            command = await remote.next()
            if command[0].endswith(b"SUBSCRIBE"):
                await remote.send(confirm(command[0].decode().lower(), *command[1:]))
                continue
            if command[0] != b"PING":
                self.asked.append(command)
            answers = self.answers[command[0]]
            await remote.send(answers.popleft() if len(answers) > 0 else OK)

    async def cut(self) -> None:
        """Lose all connections."""
        remotes, self.remotes = self.remotes, []
        for remote in remotes:
            await remote.stream.aclose()

    def names(self) -> list[bytes]:
        """What it was asked, without arguments."""
        return [command[0] for command in self.asked]


@asynccontextmanager
async def open_shards(
    url: str,
    places: dict[Place, FakeRedis],
    prepare: Callable[[Shards], object] = lambda _: None,
    **options: Any,
) -> AsyncIterator[tuple[Shards, Owner]]:
    """Be connected to servers in memory."""
    owner = Owner()
    shards = Shards(Servers.of(parse_url(url), 4.0), owner, 5.0, **options)
    prepare(shards)
    async with trio.open_nursery() as nursery:
        with in_memory({place: fake.serve for place, fake in places.items()}, nursery):
            nursery.start_soon(shards.run)
            await trio.testing.wait_all_tasks_blocked()
            yield shards, owner
            nursery.cancel_scope.cancel()
