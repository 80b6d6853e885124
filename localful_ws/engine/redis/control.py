"""What all nodes are told and asked together, and the revocations that are kept in Redis."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from localful_ws.clock import Clock
from localful_ws.engine import Presence, Subscriber
from localful_ws.engine.redis.clients import Message, RedisClient, publishing
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.lua import ASK, REVOKE
from localful_ws.engine.redis.questions import NodeQuestions, ReplyTo
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.settings import Settings

_log = structlog.get_logger(__name__)

_NOBODY: Final = ReplyTo()
# So many revocations are read and applied at a time: that takes a few milliseconds.
_SCAN: Final = 1000


class _Order(msgspec.Struct, omit_defaults=True):
    """What all nodes are told.

    Attributes:
        at: As in `Disconnect`.
        until: As in `Disconnect`.
        user: As in `Disconnect`.
        group: As in `Disconnect`.
        close: Whether to close connections, or only to refuse tokens.
        reply: The channel of `ReplyTo`.
        nonce: The nonce of `ReplyTo`.
    """

    at: float
    until: float
    user: str | None = None
    group: str | None = None
    close: bool = True
    reply: str = ""
    nonce: str = ""


class _WhoIsThere(msgspec.Struct):
    """What all nodes are asked.

    Attributes:
        user: Whose devices.
        vaults: At most so many vaults of each are named.
        reply: The channel of `ReplyTo`.
        nonce: The nonce of `ReplyTo`.
    """

    user: str
    vaults: int
    reply: str
    nonce: str


_order_decoder: Final = msgspec.json.Decoder(_Order)
_question_decoder: Final = msgspec.json.Decoder(_WhoIsThere)


class Control:
    """Tells all nodes of disconnects and asks them who is there; does and answers what it is told and asked.

    Args:
        settings: How many revocations there may be.
        clock: The daemon's clock.
        keys: The names of things.
        put_call: Has something called in its place among the events.

    Attributes:
        questions: Brings the answers of other nodes, and sends this node's.
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
        self.questions = NodeQuestions(keys)
        self._takers = {
            keys.control.encode(): self._take_order,
            keys.questions.encode(): self._take_question,
            self.questions.channel.encode(): self.questions.hear,
        }

    @property
    def channels(self) -> tuple[str, ...]:
        """What must be subscribed to."""
        return self._keys.control, self._keys.questions, self.questions.channel

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
        answers = await self.questions.ask(
            lambda reply_to: self._tell(client, [_order(disconnect, reply_to=reply_to)]), need_all=False
        )
        return sum(answer.closed for answer in answers)

    async def who_is_there(self, client: RedisClient, user: str, vaults: int) -> list[Presence]:
        """Ask all nodes for a user's devices.

        Raises:
            EngineUnavailableError: If not all have answered in time.
        """

        async def ask(reply_to: ReplyTo) -> int:
            question = _WhoIsThere(user, vaults, reply_to.channel, reply_to.nonce)
            told: int = await client.register_script(ASK)(
                [self._keys.questions], [publishing(client), msgspec.json.encode(question)]
            )
            return told

        return [presence for answer in await self.questions.ask(ask) for presence in answer.present]

    async def _tell(self, client: RedisClient, orders: Sequence[_Order]) -> int:
        """Have orders remembered and sent; how many nodes they went to."""
        arguments: list[str | bytes | int] = [
            repr(self._clock.now()),
            self._limit,
            publishing(client),
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

    def _take_question(self, data: bytes) -> None:
        question = _question_decoder.decode(data)
        reply_to = ReplyTo(question.reply, question.nonce)
        self._put_call(
            lambda subscriber: self.questions.answer(
                reply_to, present=subscriber.devices_of(question.user, question.vaults)
            )
        )

    def _apply(self, order: _Order, disconnect: Disconnect, subscriber: Subscriber) -> None:
        # Redis has seen to it that there are not too many, and has accepted this one.
        subscriber.remember([disconnect])
        closed = subscriber.close(disconnect) if order.close else 0
        self.questions.answer(ReplyTo(order.reply, order.nonce), closed=closed)

    async def recall(self, client: RedisClient) -> None:
        """Have all revocations in force applied, in portions: others have their turn in between."""
        now = self._clock.now()
        cursor: int | None = None
        while cursor != 0:
            cursor, some = await client.hscan(self._keys.revoked, cursor=cursor or 0, count=_SCAN)
            read = [_read_revocation(name, value) for name, value in some.items()]
            if found := [each for each in read if each is not None and each.until > now]:
                self._put_call(partial(_recall, found))


def _recall(disconnects: Sequence[Disconnect], subscriber: Subscriber) -> None:
    subscriber.recall(disconnects)


def _order(disconnect: Disconnect, *, close: bool = True, reply_to: ReplyTo = _NOBODY) -> _Order:
    return _Order(
        at=disconnect.at,
        until=disconnect.until,
        user=disconnect.user,
        group=disconnect.group,
        close=close,
        reply=reply_to.channel,
        nonce=reply_to.nonce,
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
