"""The engine of many nodes: streams and channels in Redis or Valkey."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Position, Presence, Receipt, Subscriber
from localful_ws.engine.redis.acknowledged import Acknowledged, Kept
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.errors import NOT_READY, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.intake import IntakeCounts, run_intake
from localful_ws.engine.redis.keys import Keys, new_epoch
from localful_ws.engine.redis.link import Link, Message
from localful_ws.engine.redis.lua import RESTORE, REVOKE, Script
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.engine.redis.refusals import Refusals
from localful_ws.engine.redis.servers import Servers
from localful_ws.engine.redis.shard import Shard
from localful_ws.engine.redis.shards import Shards
from localful_ws.engine.redis.streams import Streams
from localful_ws.engine.redis.writer import EventWriter
from localful_ws.metrics import Figure
from localful_ws.protocol import Event
from localful_ws.publishing import Disconnect
from localful_ws.redis_url import parse_url
from localful_ws.settings import Settings

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# All nodes hear of a new server within so many seconds, and give it what they have acknowledged.
_HANDOVER: Final = 1.0
_HANDOVER_PAUSE: Final = 0.01
_GOODBYE: Final = 0.5


class RedisEngine:
    """Keeps each user's stream in Redis and brings this node's users' events to it.

    Args:
        settings: Where Redis is, and what is kept there for how long.
        clock: The daemon's clock.

    Raises:
        ValueError: If a file that the URL names can't be used.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = Keys(settings.redis_prefix)
        self._queue = RouteQueue(settings.redis_queue_bytes)
        self._shards = Shards(
            Servers.of(parse_url(settings.engine), settings.redis_timeout),
            self,
            settings.redis_retry,
            replicas=settings.redis_replicas,
        )
        self._control = Control(settings, clock, self._keys, self._queue.put_call)
        self._streams = Streams(settings, self._keys, self._queue, self._shards, self._control)
        self._control.want(self._shards)
        self._acknowledged = Acknowledged(settings, self._keys)
        self._writer = EventWriter(
            settings,
            clock,
            self._keys,
            shards=self._shards,
            control=self._control,
            acknowledged=self._acknowledged,
        )
        self._refusals = Refusals(self._probe, self.changed)
        self._intake_counts = IntakeCounts()
        # What servers may lack, and refused.
        self._not_given: dict[Shard, Sequence[Kept]] = {}
        self._places = trio.Semaphore(settings.publish_queue)
        self._tried = trio.Event()
        self._closing = trio.Event()
        self._intake = trio.CancelScope()
        self._serving = trio.CancelScope()

    # --- for publishers ---

    def unavailable(self) -> str | None:
        """See `Engine.unavailable`."""
        if not self._tried.is_set():
            return "Redis has not been reached yet."
        if not self._control.in_force:
            return self._control.trouble or "Redis can't be reached just now."
        refused = self._refusals.reason
        return None if refused is None else f"Redis refuses what is written: {refused.rstrip('.')}."

    def figures(self) -> Sequence[Figure]:
        """See `Engine.figures`."""
        counts, intake = self._streams.counts, self._intake_counts
        return (
            Figure("redis_followed_users", "Users whose streams this node follows.", len(self._streams)),
            Figure(
                "redis_queue_bytes",
                "Events from Redis that wait to be routed; over redis-queue-bytes they stay there for now.",
                self._queue.bytes,
            ),
            Figure("redis_losses", "Times that Redis was lost.", self._shards.losses, total=True),
            Figure(
                "redis_unconfirmed",
                "Publishes and disconnects that Redis did not confirm, by the reason.",
                self._refusals.counts,
                total=True,
                label="reason",
            ),
            Figure(
                "redis_readings",
                "Times that a stream was read because messages were missing, as after a loss.",
                counts.readings,
                total=True,
            ),
            Figure(
                "redis_missed",
                "Times that events could not be had any more: a user's devices were closed with 4413.",
                counts.lost,
                total=True,
            ),
            Figure(
                "intake_accepted",
                "Events and disconnects that this node took from the intake.",
                intake.accepted,
                total=True,
            ),
            Figure(
                "intake_rejected",
                "Entries of the intake that this node rejected.",
                intake.rejected,
                total=True,
            ),
        )

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """See `Engine.publish`. In a cluster a batch is all or nothing for each user."""
        try:
            # Without a checkpoint: who comes first is first.
            self._places.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(self._settings.publish_timeout) as waiting:
                await self._places.acquire()
            if waiting.cancelled_caught:
                raise EngineUnavailableError("Too many publishes are under way.", retry_after=1) from None
        try:
            return await self._confirmed(lambda: self._writer.write(events))
        finally:
            self._places.release()

    async def disconnect(self, disconnect: Disconnect) -> int:
        """See `Engine.disconnect`. Counts the closed connections of all nodes that answer within a second."""
        return await self._confirmed(lambda: self._control.tell_and_count(self._shards, disconnect))

    async def _disconnect_uncounted(self, disconnect: Disconnect) -> None:
        """For the intake, where nobody is told how many: those that come after it need not wait."""
        await self._confirmed(lambda: self._control.tell(self._shards, [disconnect], close=True))

    async def _confirmed(
        self,
        ask: Callable[[], Awaitable[T]],
        otherwise: str = "Redis did not confirm it; it may have been done or not.",
    ) -> T:
        """Have Redis do something for a publisher.

        Args:
            ask: Does it.
            otherwise: The sentence of the error.

        Raises:
            EngineUnavailableError: If it has not said in time that it has.
        """
        if self._closing.is_set():
            raise EngineUnavailableError("The server is shutting down.", retry_after=5)
        try:
            with trio.move_on_after(self._settings.publish_timeout):
                return await ask()
            self._refusals.count("timeout")
        except RedisRefusedError as error:
            self._refusals.count(error.code)
            raise EngineUnavailableError(f"Redis refuses it: {error}.", retry_after=1) from None
        except RedisUnavailableError:
            self._refusals.count("unavailable")
        raise EngineUnavailableError(otherwise, retry_after=1)

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """See `Engine.who_is_there`. Waits a second for the nodes."""
        return await self._confirmed(
            lambda: self._control.who_is_there(self._shards, user, vaults), "Redis did not answer."
        )

    # --- for devices ---

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        """See `Engine.join`."""
        await self._streams.join(user, since, begin)

    def leave(self, user: str) -> None:
        """See `Engine.leave`."""
        self._streams.leave(user)

    async def pause(self, user: str, act: Callable[[str], object]) -> None:
        """See `Engine.pause`."""
        await self._streams.pause(user, act)

    # --- what arrives ---

    async def run(
        self, subscriber: Subscriber, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """See `Engine.run`. Starts when Redis has been reached, or has been tried to."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._queue.run, subscriber)
            nursery.start_soon(self._serve)
            await self._tried.wait()
            task_status.started()

    async def _serve(self) -> None:
        with self._serving:
            async with trio.open_nursery() as nursery:
                for task in (self._shards.run, self._streams.run, self._refusals.run):
                    nursery.start_soon(task)
                nursery.start_soon(self._control.run, self._shards)
                nursery.start_soon(self._control.questions.run, self._shards)
                if self._settings.intake == "on":
                    with self._intake:
                        await self._run_intake()
                await self._closing.wait()
                nursery.cancel_scope.cancel()
        self._tried.set()

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        self._closing.set()
        # It gives its lease back, for which Redis is needed: the rest ends when it has.
        self._intake.cancel()
        self._serving.deadline = trio.current_time() + _GOODBYE
        self._queue.close()
        await trio.lowlevel.checkpoint()

    async def _run_intake(self) -> None:
        await run_intake(
            self._shards,
            self._keys,
            self._settings.publish_limits(),
            self.publish,
            self._disconnect_uncounted,
            now=self._clock.now,
            revocation_seconds=self._settings.revocation_seconds,
            counts=self._intake_counts,
        )

    # --- for the servers ---

    def subscribed(self, channels: Sequence[bytes]) -> None:
        """See `ShardOwner.subscribed`."""
        self._control.subscribed(channels)
        self._streams.subscribed(channels)

    def hear(self, message: Message) -> None:
        """See `ShardOwner.hear`."""
        if not self._control.hear(message):
            self._streams.hear(message)

    def wrote(self, shard: Shard, script: Script, error: RedisRefusedError | None) -> None:
        """See `ShardOwner.wrote`."""
        if error is None:
            self._refusals.forget(shard, script)
        elif error.code != "READONLY":  # it is no longer the one to write to, which is no trouble
            self._refusals.note(shard, script, error)

    def changed(self) -> None:
        """See `ShardOwner.changed`."""
        control = self._keys.control
        if not self._shards.of(control).subscriptions.hears(control.encode()):
            self._control.lose()
        if self._control.in_force or self._shards.tried:
            self._tried.set()

    async def begin(self, shard: Shard, link: Link) -> None:
        """See `ShardOwner.begin`: what was acknowledged lately is given to a server that may lack it."""
        run_id = await _run_id_of(link)
        # Before the moment from which other nodes are waited for.
        await self._writer.check_ready(shard, link)
        now = trio.current_time()
        publish = self._shards.publish_command
        # However long it was away: nothing has become less lacking since.
        lost_at = now if shard.lost_at is None else shard.lost_at
        kept = self._acknowledged.of(
            lambda user: self._shards.of(self._keys.of_user(user, "events")) is shard, lost_at
        )
        kept = await self._acknowledged.give(link, kept, publish, last=False)
        if self._shards.of(self._keys.revoked) is shard:
            try:
                await self._control.give(self._shards, link, lost_at)
            except RedisRefusedError as error:
                if error.code in NOT_READY:
                    raise
                # What is there can be read all the same.
                self.wrote(shard, REVOKE, error)
        if kept or (self._shards.losses and run_id != shard.run_id):
            # In a Cluster it may have taken over from one that was lost. Meanwhile other nodes give what they
            # have: nobody goes on, or publishes, before.
            shard.expect(_HANDOVER + 1.0)
            while trio.current_time() < now + _HANDOVER:
                await trio.sleep(_HANDOVER_PAUSE)
                kept = await self._acknowledged.give(link, kept, publish, last=False)
            await self._give_last(shard, link, kept)
        shard.run_id = run_id

    async def _give_last(self, shard: Shard, link: Link, kept: Sequence[Kept]) -> None:
        """Give what can't be waited for any more; what Redis refuses is tried again by `_probe`."""
        left = await self._acknowledged.give(link, kept, self._shards.publish_command, last=True)
        self._not_given[shard] = left
        if self._acknowledged.refusal is not None:
            self.wrote(shard, RESTORE, self._acknowledged.refusal)

    async def _probe(self, shard: Shard) -> None:
        """See whether a server takes what is written; raises like `EventWriter.probe`."""
        await self._writer.probe(shard)
        kept = self._not_given.pop(shard, None)
        if kept and shard.link is not None:
            await self._give_last(shard, shard.link, kept)
            if self._acknowledged.refusal is not None:
                raise self._acknowledged.refusal


async def _run_id_of(link: Link) -> str:
    """By which a server is known from one start to the next."""
    try:
        said = await link.call("INFO", "server")
    except RedisRefusedError:
        return new_epoch()  # it is not told: it may be another one
    text = said if isinstance(said, bytes) else b""
    _, _, rest = text.partition(b"run_id:")
    return rest.partition(b"\r")[0].decode(errors="replace") or new_epoch()
