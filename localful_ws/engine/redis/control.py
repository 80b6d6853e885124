"""What all nodes are told and asked together, and the revocations that are kept in Redis."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Presence, Subscriber
from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.link import Link, Message
from localful_ws.engine.redis.lua import ASK, REVOKE
from localful_ws.engine.redis.questions import NodeQuestions, ReplyTo
from localful_ws.engine.redis.shards import Argument, Shards
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.settings import Settings
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_NOBODY: Final = ReplyTo()
# So many revocations are read and applied at a time: that takes a few milliseconds.
_SCAN: Final = 1000
_GIVEN_AT_ONCE: Final = 500
_PAUSE_IN_TROUBLE: Final = 0.5


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
        in_force: Whether this node hears what it is told, and knows of all revocations.
        trouble: Why it can't know them, as a sentence, if it is not because Redis is away.
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
        self._handover_seconds = settings.redis_handover_seconds
        # The orders of the last seconds, with the moment.
        self._written: deque[tuple[float, _Order]] = deque()
        # Those that a server may lack, and did not take.
        self._not_given: list[_Order] = []
        self._to_recall = False
        # What is being read; another one once that does not count any more.
        self._reading: object = None
        self._subscribed = Signal()
        self._changed = Signal()
        self.in_force = False
        self.trouble: str | None = None
        self.questions = NodeQuestions(keys)
        self._takers = {
            keys.control.encode(): self._take_order,
            keys.questions.encode(): self._take_question,
            self.questions.channel.encode(): self.questions.hear,
        }

    def want(self, shards: Shards) -> None:
        """Have the channels subscribed to."""
        for channel in self._takers:
            shards.of(channel).subscriptions.want(channel)

    def subscribed(self, channels: Sequence[bytes]) -> None:
        """Take note of what is heard from now on: revocations may have been missed before."""
        if self._keys.control.encode() in channels:
            self.lose()
            self._to_recall = True
            self._subscribed.set()

    def lose(self) -> None:
        """Take note that nothing is heard."""
        self.in_force = self._to_recall = False
        self._reading = None

    async def wait_in_force(self) -> None:
        """Wait until this node hears what it is told, and knows of all revocations."""
        while not self.in_force:
            await self._changed.wait()

    async def run(self, shards: Shards) -> None:
        """Read the revocations whenever some may have been missed, until cancelled."""
        while True:
            while not self._to_recall:
                await self._subscribed.wait()
            self._to_recall = False
            reading = self._reading = object()
            try:
                await self._recall(shards)
            except RedisUnavailableError:
                continue  # the channels will be subscribed to again
            except RedisRefusedError as error:
                trouble = f"Redis does not give out the revocations: {error}."
                if trouble != self.trouble:
                    _log.error("revocations can't be read; trying on", reason=str(error))
                self.trouble = trouble
                await trio.sleep(_PAUSE_IN_TROUBLE)
                self._to_recall = self._to_recall or self._reading is reading
            else:
                # Once they are applied. What was lost meanwhile is read again.
                self._put_call(partial(self._come_in_force, reading, shards))

    def _come_in_force(self, reading: object, shards: Shards, _: Subscriber) -> None:
        if self._reading is reading:
            self.in_force, self.trouble = True, None
            self._changed.set()
            shards.owner.changed()

    async def tell(self, shards: Shards, disconnects: Sequence[Disconnect], *, close: bool) -> None:
        """Have disconnects remembered, all or none, and all nodes told. It is not waited for these.

        Args:
            shards: The servers.
            disconnects: What to do.
            close: Whether to close connections, or only to refuse tokens.

        Raises:
            TooManyRevocationsError: If not all can be remembered; nothing was done.
        """
        await self._tell(shards, [_order(disconnect, close=close) for disconnect in disconnects])

    async def tell_and_count(self, shards: Shards, disconnect: Disconnect) -> int:
        """Have a disconnect remembered, and done by all nodes.

        Returns:
            How many connections were closed, by the nodes that answered in time.

        Raises:
            TooManyRevocationsError: If no more can be remembered; nothing was done.
        """
        answers = await self.questions.ask(
            lambda reply_to: self._tell(shards, [_order(disconnect, reply_to=reply_to)]), need_all=False
        )
        return sum(answer.closed for answer in answers)

    async def who_is_there(self, shards: Shards, user: str, vaults: int) -> list[Presence]:
        """Ask all nodes for a user's devices.

        Raises:
            EngineUnavailableError: If not all have answered in time.
        """

        async def ask(reply_to: ReplyTo) -> int:
            question = _WhoIsThere(user, vaults, reply_to.channel, reply_to.nonce)
            told: int = await shards.run_script(
                ASK, [self._keys.questions], [shards.publish_command, msgspec.json.encode(question)]
            )
            return told

        return [presence for answer in await self.questions.ask(ask) for presence in answer.present]

    async def _tell(self, shards: Shards, orders: Sequence[_Order]) -> int:
        """Have orders remembered and sent; how many nodes they went to."""
        call = (self._revocation_keys(), self._arguments(shards, orders))
        [told] = await shards.run_scripts(REVOKE, [call], lambda replies: self._keep(orders, replies[0]))
        if told < 0:
            raise TooManyRevocationsError
        return int(told)

    def _keep(self, orders: Sequence[_Order], told: int) -> None:
        """Keep what was written, to be given to a server that lacks it."""
        now = trio.current_time()
        if told >= 0:
            self._written += [(now, msgspec.structs.replace(order, reply="", nonce="")) for order in orders]
        while self._written and self._written[0][0] + self._handover_seconds <= now:
            self._written.popleft()

    async def probe(self, shards: Shards) -> None:
        """Look whether revocations could be kept, and give what could not be given.

        Raises:
            RedisUnavailableError, RedisRefusedError: If not.
        """
        while some := self._not_given[:_GIVEN_AT_ONCE]:
            await shards.run_script(REVOKE, self._revocation_keys(), self._arguments(shards, some))
            del self._not_given[: len(some)]
        await shards.run_script(REVOKE, self._revocation_keys(), self._arguments(shards, ()))
        await shards.call(self._keys.revoked, "HEXISTS", self._keys.revoked, "")

    async def give(self, shards: Shards, link: Link, now: float) -> None:
        """Give a server what had been acknowledged lately at a moment: it may lack it.

        Raises:
            RedisUnavailableError, RedisRefusedError: If it can't be given; `probe` tries again.
        """
        orders = [
            order
            for at, order in self._written
            # Those that have lapsed would only take the room of others.
            if at + self._handover_seconds > now and order.until > self._clock.now()
        ]
        self._not_given = orders
        while some := self._not_given[:_GIVEN_AT_ONCE]:
            arguments = self._arguments(shards, some)
            keys = self._revocation_keys()
            if await link.call("EVAL", REVOKE.text, len(keys), *keys, *arguments) < 0:
                _log.error("revocations are lost: Redis has as many as max-revocations allows")
            self._not_given = self._not_given[len(some) :]

    def _revocation_keys(self) -> list[str]:
        return [self._keys.revoked, self._keys.lapses]

    def _arguments(self, shards: Shards, orders: Sequence[_Order]) -> list[Argument]:
        arguments: list[Argument] = [
            repr(self._clock.now()),
            self._limit,
            shards.publish_command,
            self._keys.control,
        ]
        for order in orders:
            arguments += [
                _name_of(order),
                repr(float(order.at)),
                repr(float(order.until)),
                msgspec.json.encode(order),
            ]
        return arguments

    def hear(self, message: Message) -> bool:
        """Take what came over one of the channels; False if it came over another one."""
        take = self._takers.get(message.channel)
        if take is None:
            return False
        try:
            take(message.data)
        except (ValueError, RecursionError):  # msgspec's errors are such, and a disconnect that names nobody
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

    async def _recall(self, shards: Shards) -> None:
        """Have all revocations in force applied, in portions: others have their turn in between."""
        now = self._clock.now()
        key, cursor = self._keys.revoked, b""
        while cursor != b"0":
            cursor, some = await shards.call(key, "HSCAN", key, cursor or b"0", "COUNT", _SCAN)
            read = [_read_revocation(name, value) for name, value in zip(some[::2], some[1::2], strict=True)]
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
