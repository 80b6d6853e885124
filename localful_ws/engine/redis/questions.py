"""Questions to all nodes, and their answers: each node hears answers on a channel of its own."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog
import trio

from localful_ws.engine import EngineUnavailableError, Presence
from localful_ws.engine.redis.errors import REDIS_ERRORS
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.shards import Shards
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_ANSWER_SECONDS: Final = 1.0
_MOST_ANSWERS: Final = 1024


class ReplyTo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an answer goes.

    Attributes:
        channel: The channel; empty if none is waited for.
        nonce: What the answer begins with.
    """

    channel: str = ""
    nonce: str = ""


class NodeAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node answers.

    Attributes:
        nonce: As in `ReplyTo`.
        closed: How many connections it closed.
        present: The devices that it was asked for.
    """

    nonce: str
    closed: int = 0
    present: list[Presence] = []


_decoder: Final = msgspec.json.Decoder(NodeAnswer)


class NodeQuestions:
    """Collects what nodes answer, and sends this node's own answers.

    Args:
        keys: The names of things.

    Attributes:
        channel: Where this node hears answers.
    """

    def __init__(self, keys: Keys) -> None:
        self.channel = keys.of_node(secrets.token_hex(8))
        # What has been answered so far, by the nonces of the questions.
        self._answers: dict[str, list[NodeAnswer]] = {}
        self._answered = Signal()
        self._to_send, self._sending = trio.open_memory_channel[tuple[str, NodeAnswer]](_MOST_ANSWERS)

    async def ask(
        self, send: Callable[[ReplyTo], Awaitable[int]], *, need_all: bool = True
    ) -> list[NodeAnswer]:
        """Ask all nodes.

        Args:
            send: Sends the question, and says to how many nodes.
            need_all: Whether all must answer.

        Returns:
            What was answered within a second.

        Raises:
            EngineUnavailableError: If all must answer, and have not.
        """
        nonce = secrets.token_hex(8)
        answers = self._answers[nonce] = []
        try:
            told = await send(ReplyTo(self.channel, nonce))
            with trio.move_on_after(_ANSWER_SECONDS):
                while len(answers) < told:
                    await self._answered.wait()
            if need_all and len(answers) < told:
                raise EngineUnavailableError("Not all nodes have answered.", retry_after=1)
            return answers
        finally:
            del self._answers[nonce]

    def hear(self, data: bytes) -> None:
        """Take an answer.

        Raises:
            msgspec.MsgspecError: If it is none.
        """
        answer = _decoder.decode(data)
        answers = self._answers.get(answer.nonce)
        if answers is not None:
            answers.append(answer)
            self._answered.set()

    def answer(self, reply_to: ReplyTo, *, closed: int = 0, present: list[Presence] | None = None) -> None:
        """Have this node's answer sent, if one is waited for."""
        if not reply_to.channel:
            return
        answer = NodeAnswer(reply_to.nonce, closed, present or [])
        try:
            self._to_send.send_nowait((reply_to.channel, answer))
        except trio.WouldBlock:
            _log.warning("a question of another node was not answered: too many at once")

    async def run(self, shards: Shards) -> None:
        """Send answers until cancelled."""
        async for channel, answer in self._sending:
            try:
                await publish(shards, channel, msgspec.json.encode(answer))
            except REDIS_ERRORS as error:
                _log.warning("a question of another node was not answered", reason=str(error))


async def publish(shards: Shards, channel: str, data: bytes) -> int:
    """Publish on a channel, and say to how many that went."""
    told: int = await shards.call(channel, shards.publish_command, channel, data)
    return told
