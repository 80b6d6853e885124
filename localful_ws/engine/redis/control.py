"""Disconnects on their way to all nodes, and the revocations that are kept in Redis."""

import secrets
from collections.abc import Callable, Sequence
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
        user: As in `Disconnect`.
        group: As in `Disconnect`.
        close: Whether to close connections, or only to refuse tokens.
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

    async def tell(self, client: RedisClient, disconnects: Sequence[Disconnect], *, close: bool) -> None:
        """Have disconnects remembered, all or none, and all nodes told. It is not waited for these.

        Args:
            client: An open client.
            disconnects: What to do.
            close: Whether to close connections, or only to refuse tokens.

        Raises:
            TooManyRevocationsError: If not all can be remembered; nothing was done.
        """
        await self._tell(client, [_order(disconnect, close=close) for disconnect in disconnects])

    async def tell_and_count(self, client: RedisClient, disconnect: Disconnect) -> int:
        """Have a disconnect remembered, and done by all nodes.

        Returns:
            How many connections were closed, by the nodes that answered in time.

        Raises:
            TooManyRevocationsError: If no more can be remembered; nothing was done.
        """
        nonce = secrets.token_hex(8)
        tally = self.tallies[nonce] = []
        try:
            told = await self._tell(client, [_order(disconnect, reply=self._own_channel, nonce=nonce)])
            with trio.move_on_after(_ANSWER_SECONDS):
                while len(tally) < told:
                    await self.answered.wait()
            return sum(tally)
        finally:
            del self.tallies[nonce]

    async def _tell(self, client: RedisClient, orders: Sequence[_Order]) -> int:
        """Have orders remembered and sent; how many nodes they went to, all orders together."""
        arguments: list[str | bytes | int] = [
            repr(self._clock.now()),
            self._limit,
            "SPUBLISH" if is_cluster(client) else "PUBLISH",
            self._keys.control,
        ]
        for order in orders:
            arguments += [
                _name_of(order),
                repr(float(order.at)),
                repr(float(order.until)),
                msgspec.json.encode(order),
            ]
        told: int = await client.register_script(REVOKE)([self._keys.revoked, self._keys.lapses], arguments)
        if told < 0:
            raise TooManyRevocationsError
        return told

    def hear(self, message: Message) -> bool:
        """Take what came over one of the channels; False if it came over another one."""
        take = self._takers.get(message.channel)
        if take is None:
            return False
        try:
            take(message.data)
        except ValueError:  # msgspec's errors are such, and a disconnect that names nobody
            _log.warning("a message of Redis can't be read")
        return True

    def _take_order(self, data: bytes) -> None:
        order = _order_decoder.decode(data)
        disconnect = Disconnect(order.user, order.group, at=order.at, until=order.until)
        self._put_call(lambda subscriber: self._apply(order, disconnect, subscriber))

    def _take_answer(self, data: bytes) -> None:
        answer = _answer_decoder.decode(data)
        tally = self.tallies.get(answer.nonce)
        if tally is not None:
            tally.append(answer.closed)
            self.answered.set()

    def _apply(self, order: _Order, disconnect: Disconnect, subscriber: Subscriber) -> None:
        closed = 0
        try:
            if order.close:
                closed = subscriber.apply_disconnect(disconnect)
            else:
                subscriber.refuse([disconnect])
        except TooManyRevocationsError:
            _log.warning("a revocation can't be remembered: max-revocations is reached")
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


def _order(disconnect: Disconnect, *, close: bool = True, reply: str = "", nonce: str = "") -> _Order:
    return _Order(
        at=disconnect.at,
        until=disconnect.until,
        user=disconnect.user,
        group=disconnect.group,
        close=close,
        reply=reply,
        nonce=nonce,
    )


def _name_of(order: _Order) -> str:
    """What a revocation is kept under. Whatever the ids are, no two have the same."""
    if order.group is None:
        return f"user:{order.user}"
    if order.user is None:
        return f"group:{order.group}"
    return f"login:{msgspec.json.encode([order.user, order.group]).decode()}"


def _read_revocation(name: bytes, value: bytes) -> Disconnect | None:
    try:
        kind, _, who = name.decode().partition(":")
        at, until = map(float, value.split())
        match kind:
            case "user":
                return Disconnect(user=who, at=at, until=until)
            case "group":
                return Disconnect(group=who, at=at, until=until)
            case "login":
                user, group = msgspec.json.decode(who, type=tuple[str, str])
                return Disconnect(user, group, at=at, until=until)
            case _:
                return None
    except ValueError:
        return None
