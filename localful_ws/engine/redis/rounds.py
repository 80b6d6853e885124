"""Something that is done for all who wait for it at once."""

from collections.abc import Awaitable, Callable, Sequence

from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisUnavailableError
from localful_ws.wakeup import Future, Signal


class Rounds:
    """Does something as often as somebody asks for it, but for all who have asked by then together.

    Args:
        acts: What is done in a round, one after the other.
    """

    def __init__(self, acts: Sequence[Callable[[], Awaitable[None]]]) -> None:
        self._acts = acts
        self._waiting: list[Future[None]] = []
        self._coming: list[Future[None]] = []
        self._asked = Signal()
        self._ended = False

    async def join(self) -> None:
        """Wait for the end of a round that begins from now on.

        Raises:
            RedisUnavailableError, RedisRefusedError: What was raised in it, or if there are none any more.
        """
        done = Future[None]()
        if self._ended:
            raise _over()
        self._coming.append(done)
        self._asked.set()
        await done.wait()

    async def run(self) -> None:
        """Do it, until cancelled."""
        try:
            while True:
                while not self._coming:
                    await self._asked.wait()
                self._waiting, self._coming = self._coming, []
                try:
                    for act in self._acts:
                        await act()
                except REDIS_ERRORS as error:
                    for done in self._waiting:
                        done.fail(error)
                else:
                    for done in self._waiting:
                        done.set(None)
        finally:
            self._ended = True
            for done in (*self._waiting, *self._coming):
                done.fail(_over())


def _over() -> RedisUnavailableError:
    return RedisUnavailableError("The connection to Redis was lost before a write could be relied on.")
