"""Disconnects on their way to all nodes, and the revocations that are kept in Redis."""

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Subscriber
from localful_ws.engine.redis.clients import Message, RedisClient, is_cluster
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.lua import REVOKE
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.settings import Settings
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_ANSWER_SECONDS: Final = 1.0
_MOST_ANSWERS: Final = 1024
_SCAN: Final = 1000


class _Order(msgspec.Struct, omit_defaults=True):
    """What all nodes are told.

    Attributes:
        at: As in `Disconnect`.
        until: As in `Disconnect`.
        reply: The channel that the answer goes to; empty if none is waited for.
        nonce: What the answer begins with.
    """

    at: float
    until: float
    user: str | None = None
    group: str | None = None
    close: bool = True
    reply: str = ""
    nonce: str = ""


class _Answer(msgspec.Struct):
    nonce: str
    closed: int


_order_decoder: Final = msgspec.json.Decoder(_Order)
_answer_decoder: Final = msgspec.json.Decoder(_Answer)


class Control:
    """Tells all nodes of disconnects, and applies what it is told.

    Args:
        settings: How many revocations there may be.
        clock: The daemon's clock.
        keys: The names of things.
        put_call: Has something called in its place among the events.

    Attributes:
        tallies: How many connections each node closed that has answered, by the nonces of the orders.
        answered: Set when an answer has come.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        keys: Keys,
        put_call: Callable[[Callable[[Subscriber], None]], object],
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._put_call = put_call
        self._limit = settings.max_revocations
        self._own_channel = keys.of_node(secrets.token_hex(8))
        self._takers = {
            keys.control.encode(): self._take_order,
            self._own_channel.encode(): self._take_answer,
        }
        self.tallies: dict[str, list[int]] = {}
        self.answered = Signal()
        self._to_answer, self._answers = trio.open_memory_channel[tuple[str, bytes]](_MOST_ANSWERS)

    @property
    def channels(self) -> tuple[str, str]:
        """What must be subscribed to."""
        return self._keys.control, self._own_channel

    async def tell(self, client: RedisClient, disconnect: Disconnect) -> int:
        """Have a disconnect remembered, and done by all nodes.

        Returns:
            How many connections were closed, by the nodes that answered in time.

        Raises:
            TooManyRevocationsError: If no more can be remembered; nothing was done.
        """
        nonce = secrets.token_hex(8)
        order = _Order(
            at=disconnect.at,
            until=disconnect.until,
            user=disconnect.user,
            group=disconnect.group,
            close=disconnect.close,
            reply=self._own_channel if disconnect.close else "",
            nonce=nonce,
        )
        tally = self.tallies[nonce] = []
        try:
            told: int = await client.register_script(REVOKE)(
                [self._keys.revoked, self._keys.lapses],
                [
                    _name_of(disconnect),
                    repr(disconnect.at),
                    repr(disconnect.until),
                    repr(self._clock.now()),
                    self._limit,
                    "SPUBLISH" if is_cluster(client) else "PUBLISH",
                    self._keys.control,
                    msgspec.json.encode(order),
                ],
            )
            if told < 0:
                raise TooManyRevocationsError
            if disconnect.close:
                with trio.move_on_after(_ANSWER_SECONDS):
                    while len(tally) < told:
                        await self.answered.wait()
            return sum(tally)
        finally:
            del self.tallies[nonce]

    def hear(self, message: Message) -> bool:
        """Take what came over one of the channels; False if it came over another one."""
        take = self._takers.get(message.channel)
        if take is None:
            return False
        try:
            take(message.data)
        except msgspec.MsgspecError:
            _log.warning("a message of Redis can't be read")
        return True

    def _take_order(self, data: bytes) -> None:
        order = _order_decoder.decode(data)
        self._put_call(lambda subscriber: self._apply(order, subscriber))

    def _take_answer(self, data: bytes) -> None:
        answer = _answer_decoder.decode(data)
        tally = self.tallies.get(answer.nonce)
        if tally is not None:
            tally.append(answer.closed)
            self.answered.set()

    def _apply(self, order: _Order, subscriber: Subscriber) -> None:
        disconnect = Disconnect(order.user, order.group, at=order.at, until=order.until, close=order.close)
        try:
            closed = subscriber.apply_disconnect(disconnect)
        except TooManyRevocationsError:
            _log.warning("a revocation can't be remembered: max-revocations is reached")
            closed = 0
        if order.reply:
            try:
                answer = msgspec.json.encode(_Answer(order.nonce, closed))
                self._to_answer.send_nowait((order.reply, answer))
            except trio.WouldBlock:
                _log.warning("a disconnect was done and not answered: too many at once")

    async def answer(self, client: RedisClient) -> None:
        """Send answers until cancelled, or until Redis fails."""
        async for channel, data in self._answers:
            if is_cluster(client):
                await client.spublish(channel, data)
            else:
                await client.publish(channel, data)

    async def recall(self, client: RedisClient) -> None:
        """Read all revocations in force, and have them applied."""
        now = self._clock.now()
        found: list[Disconnect] = []
        cursor: int | None = None
        while cursor != 0:
            cursor, some = await client.hscan(self._keys.revoked, cursor=cursor or 0, count=_SCAN)
            for name, value in some.items():
                disconnect = _read_revocation(name, value)
                if disconnect is not None and disconnect.until > now:
                    found.append(disconnect)
        if found:
            self._put_call(lambda subscriber: subscriber.recall(found))


def _name_of(disconnect: Disconnect) -> str:
    return f"user:{disconnect.user}" if disconnect.user is not None else f"group:{disconnect.group}"


def _read_revocation(name: bytes, value: bytes) -> Disconnect | None:
    try:
        kind, _, who = name.decode().partition(":")
        at, until = map(float, value.split())
    except ValueError:
        return None
    if kind == "user":
        return Disconnect(user=who, at=at, until=until)
    return Disconnect(group=who, at=at, until=until)
