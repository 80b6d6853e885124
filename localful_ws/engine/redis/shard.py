"""One server that has keys, and the connections to it."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from localful_ws.engine.redis.errors import (
    REDIS_ERRORS,
    RedisRefusedError,
    RedisUnavailableError,
    raise_single,
)
from localful_ws.engine.redis.link import Ended, Link, Message, Server, open_link
from localful_ws.engine.redis.lua import Script
from localful_ws.engine.redis.subscriptions import Subscriptions
from localful_ws.wakeup import Signal

if TYPE_CHECKING:
    from localful_ws.engine.redis.shards import Shards

_log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.1
_FAREWELL: Final = 0.5
PATIENCE: Final = 2.0
"""Whoever wants something of a server that was just lost waits so many seconds for it to come back."""


class ShardOwner(Protocol):
    """Whose servers they are."""

    def subscribed(self, channels: Sequence[bytes]) -> None:
        """These are heard from now on; what was published in them before may have been missed."""
        ...

    def hear(self, message: Message) -> None:
        """This was published."""
        ...

    async def begin(self, shard: "Shard", link: Link) -> None:
        """Do what must be done before a server is written to or read.

        Raises:
            RedisUnavailableError, RedisRefusedError: If it can't be done now.
        """
        ...

    def wrote(self, shard: "Shard", script: Script, error: RedisRefusedError | None) -> None:
        """Something that is relied on was written, or refused."""
        ...

    def changed(self) -> None:
        """A server is there, or was lost."""
        ...


class Shard:
    """A server that has some of the keys, or all.

    Attributes:
        server: Which one; None as long as that is not known.
        link: The connection, while it is there.
        subscriptions: Its channels.
        expected_until: Until when those who want something of it wait, while it is not there.
        run_id: By which the server is known from one start to the next; what it was before, if it is lost.
        lost_at: When it was lost last; None if it never was.
    """

    def __init__(self, shards: "Shards", server: Server | None) -> None:
        self.server = server
        self.link: Link | None = None
        self.run_id = ""
        self.lost_at: float | None = None
        self.subscriptions = Subscriptions(
            shards.owner.subscribed, shards.take_moved if shards.is_cluster else None
        )
        self.scope = trio.CancelScope()
        self._shards = shards
        self._restart = Signal()
        self.expected_until = -1.0
        self._problem = ""

    @property
    def is_expected(self) -> bool:
        """Whether it may be there in a moment."""
        return trio.current_time() < self.expected_until

    def expect(self, seconds: float) -> None:
        """Have those who want something of it wait for so long."""
        self.expected_until = max(self.expected_until, trio.current_time() + seconds)

    def restart(self) -> None:
        """Have its connections made anew."""
        self._restart.set()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        attempt = 0
        while True:
            began = trio.current_time()
            try:
                await self._be_connected()
            except REDIS_ERRORS as error:
                self.note_problem(str(error))
                self._shards.note_loss()
            longest = self._shards.longest_pause
            attempt = 0 if trio.current_time() - began > longest else attempt + 1
            pause = min(longest, _FIRST_PAUSE * 2.0 ** min(attempt, 16))
            with trio.move_on_after(pause * random.random()):  # noqa: S311 - spreads nodes, hides nothing
                await self._restart.wait()

    async def _be_connected(self) -> None:
        shards = self._shards
        server = self.server = await shards.find(self)
        async with open_link(server, self._hear) as link:
            shards.servers.check(link)
            link.confirming = shards.make_rounds(link)
            was_there = False
            try:
                async with trio.open_nursery() as nursery:
                    if link.confirming is not None:
                        nursery.start_soon(link.confirming.run)
                    await shards.owner.begin(self, link)
                    self.link, self._problem, was_there = link, "", True
                    nursery.start_soon(self.subscriptions.run, link)
                    _log.info("Redis is there", server=str(server))
                    shards.note_change()
                    await self._restart.wait()
                    self.link = None
                    with trio.move_on_after(_FAREWELL):
                        # The replies to all that was sent come before this one.
                        await link.call("PING")
                    raise RedisUnavailableError(f"Another server than {server} is to be used.")
            except BaseExceptionGroup as group:
                raise_single(group)
                raise
            finally:
                self.link = None
                if was_there:
                    shards.losses += 1
                    self.lost_at = trio.current_time()
                self.expect(PATIENCE)
                self.subscriptions.lose()
                shards.note_change()

    def note_problem(self, reason: str) -> None:
        """Tell why it can't be reached, each reason once."""
        if reason != self._problem:
            self._problem = reason
            _log.warning("Redis is lost; trying again", reason=reason)

    def _hear(self, heard: Sequence[Message | Ended]) -> None:
        for each in heard:
            if isinstance(each, Message):
                self._shards.owner.hear(each)
            else:
                self.subscriptions.end(each.channel)
                self._shards.owner.changed()
