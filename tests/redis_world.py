"""The engine in a real Redis, in a world whose clock is Trio's own.

Redis answers in real time, of which such a clock knows nothing. So no time passes while an answer is on its
way, and what was published counts as accepted when the node has heard of it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import msgspec
import trio
import trio.testing
from attrs import define
from trio.testing import MockClock

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Position, Presence, Receipt, Subscriber
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.engine.redis.questions import NodeAnswer, ReplyTo, publish
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect
from localful_ws.settings import Settings

_engine = trio.lowlevel.RunVar["RedisWorldEngine | None"]("redis_engine", default=None)


async def settle() -> None:
    """Wait until nobody can do anything before time passes."""
    engine = _engine.get()
    await (trio.testing.wait_all_tasks_blocked() if engine is None else engine.settle())


@define
class _StartStatus(trio.TaskStatus[None]):
    """Hands on that something has started, and says so."""

    status: trio.TaskStatus[None]
    leave: Callable[[], None]

    def started(self, value: None = None) -> None:
        self.leave()
        self.status.started(value)


class RedisWorldEngine(RedisEngine):
    """Keeps the clock from running while it waits for Redis."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self._under_way = 0
        _engine.set(self)
        mock_clock = trio.lowlevel.current_clock()
        self._mock_clock = mock_clock if isinstance(mock_clock, MockClock) else None

    async def settle(self) -> None:
        """Wait until nobody can do anything before time passes."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if not self._under_way:
                return

    async def run(
        self, subscriber: Subscriber, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self._begin()
        await super().run(subscriber, task_status=_StartStatus(task_status, self._end))

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        with self._busy():
            await super().join(user, since, begin)

    async def publish(self, events: Sequence[Event]) -> Receipt:
        with self._busy():
            receipt = await super().publish(events)
            await self._hear_all()
            return receipt

    async def disconnect(self, disconnect: Disconnect) -> int:
        with self._busy():
            return await super().disconnect(disconnect)

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        with self._busy():
            return await super().who_is_there(user, vaults)

    async def _hear_all(self) -> None:
        """Hear of everything that has been published so far: of this, last of all."""

        async def echo(reply_to: ReplyTo) -> int:
            return await publish(
                self._shards, reply_to.channel, msgspec.json.encode(NodeAnswer(reply_to.nonce))
            )

        while True:
            with suppress(EngineUnavailableError):
                await self._control.questions.ask(echo)
                return

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._begin()
        try:
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        self._under_way += 1
        if self._mock_clock is not None:
            self._mock_clock.autojump_threshold = math.inf

    def _end(self) -> None:
        self._under_way -= 1
        if self._mock_clock is not None and not self._under_way:
            self._mock_clock.autojump_threshold = 0
