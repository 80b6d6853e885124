"""A node's connection to the simulated Redis: delays, stalls, and losses between a command and its answer."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from localful_ws.engine.redis.errors import RedisUnavailableError
from localful_ws.engine.redis.link import Hear, Message, Server
from localful_ws.wakeup import Future

if TYPE_CHECKING:
    from .nodes import SimulatedNode
    from .redis import SimulatedRedis

# As client-output-buffer-limit has it.
_MOST_ON_THE_WAY = 1000
_ROUNDING = 1e-9
_Way = deque[tuple[float, Callable[[], object]]]


class SimulatedLink:
    """Stands in for `localful_ws.engine.redis.link.Link`, as far as the engine uses that.

    Commands arrive in the order in which they were sent, and so do answers and messages.

    Args:
        redis: To what.
        server: As the node calls it.
        node: Whose it is.
        hear: Takes what is published in the channels that are subscribed to.

    Attributes:
        node: As above.
        channels: The channels that are subscribed to.
        began: When it was made, on Trio's clock.
        stalled_until: Until when nothing comes through.
        is_lost: Whether it is lost.
    """

    confirming = None

    def __init__(
        self, redis: "SimulatedRedis", server: Server, node: "SimulatedNode | None", hear: Hear | None
    ) -> None:
        self.server = server
        self.hello = {"server": "redis", "version": "7.4.0", "mode": "standalone", "role": "master"}
        self.node = node
        self.channels: set[bytes] = set()
        self.began = trio.current_time()
        self.stalled_until = 0.0
        self._redis = redis
        self._hear = hear
        self._up: _Way = deque()
        self._down: _Way = deque()
        self._waiting: dict[Future[Any], None] = {}
        self._lost = trio.Event()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    def send(self, *command: str | bytes | float) -> Future[Any]:
        """See `Link.send`."""
        return self._ask(lambda: self._redis.do(self, command))

    async def call(self, *command: str | bytes | float) -> Any:
        """See `Link.call`."""
        return await self.send(*command).wait()

    def send_order(self, kind: str, channels: Iterable[bytes]) -> Future[None]:
        """See `Link.send_order`."""
        names = list(channels)
        return self._ask(lambda: self._redis.order(self, kind, names))

    def tell(self, message: Message) -> None:
        """Have a message come here."""
        if len(self._down) >= _MOST_ON_THE_WAY:
            self._redis.lose(self)
        elif self._hear is not None:
            hear = self._hear
            self._come(self._down, lambda: hear([message]))

    def stall(self, seconds: float) -> None:
        """Let nothing through for a while; the node gives it up once it has waited for as long as it does."""
        now, timeout = trio.current_time(), self.server.timeout
        self.stalled_until = now + seconds
        # It is pinged once nothing was heard for a quarter of that time.
        given_up = now + timeout * self._redis.random.uniform(1.0, 1.25)
        if given_up < self.stalled_until:
            self._redis.agenda.at(given_up, lambda: self._redis.drop(self))

    def lose(self) -> None:
        """It is lost."""
        if not self.is_lost:
            self._lost.set()
            self._up.clear()
            self._down.clear()
            for reply in self._waiting:
                reply.fail(_lost())
            self._waiting.clear()

    async def watch(self) -> None:
        """Wait until it is lost.

        Raises:
            RedisUnavailableError: Then.
        """
        await self._lost.wait()
        raise _lost()

    def _ask(self, do: Callable[[], tuple[Any, Callable[[], object]]]) -> Future[Any]:
        """Have something done by Redis, which says what the answer is and what to do when that has come."""
        if self.is_lost:
            raise _lost()
        reply = Future[Any]()
        self._waiting[reply] = None

        def arrive() -> None:
            answer, answered = do()
            if self._redis.random.random() < self._redis.lose_answers:
                self._redis.lose(self)
            if not self.is_lost:
                self._come(self._down, lambda: come_back(answer, answered))

        def come_back(answer: Any, answered: Callable[[], object]) -> None:
            del self._waiting[reply]
            answered()
            reply.set(answer)

        self._come(self._up, arrive)
        return reply

    def _come(self, way: _Way, arrive: Callable[[], object]) -> None:
        moment = trio.current_time() + self._redis.random.uniform(*self._redis.delay)
        if way:
            moment = max(moment, way[-1][0])
        way.append((moment, arrive))
        self._redis.agenda.at(moment, lambda: self._let_through(way))

    def _let_through(self, way: _Way) -> None:
        now = trio.current_time() + _ROUNDING
        if way and self.stalled_until > now:
            self._redis.agenda.at(self.stalled_until, lambda: self._let_through(way))
            return
        while way and way[0][0] <= now:
            way.popleft()[1]()


def _lost() -> RedisUnavailableError:
    return RedisUnavailableError("The connection is lost.")
