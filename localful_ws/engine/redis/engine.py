"""The engine of many nodes: streams and channels in Redis or Valkey."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio
from coredis.exceptions import ReadOnlyError, ResponseError

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Position, Presence, Receipt, Subscriber
from localful_ws.engine.redis.clients import (
    REDIS_ERRORS,
    PubSub,
    RedisClient,
    RedisUnavailableError,
    is_cluster,
    open_client,
    open_pubsub,
    publishing,
)
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.errors import raise_single
from localful_ws.engine.redis.intake import IntakeCounts, run_intake
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.lua import KNOWN, PUBLISH
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.engine.redis.streams import Streams, new_epoch
from localful_ws.engine.redis.wire import encode_stored
from localful_ws.metrics import Figure
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.settings import Settings
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_EventsOfUsers = Sequence[tuple[str, Sequence[Event]]]

_FIRST_PAUSE: Final = 0.1
# A Cluster is sent what concerns so many users at a time: the client has some 20 connections to each server.
_USERS_AT_ONCE: Final = 16


class RedisEngine:
    """Keeps each user's stream in Redis and brings this node's users' events to it.

    Args:
        settings: Where Redis is, and what is kept there for how long.
        clock: The daemon's clock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = Keys(settings.redis_prefix)
        self._queue = RouteQueue(settings.redis_queue_bytes)
        self._streams = Streams(settings, self._keys, self._queue)
        self._control = Control(settings, clock, self._keys, self._queue.put_call)
        self._intake_counts = IntakeCounts()
        self._losses = 0
        self._places = trio.Semaphore(settings.publish_queue)
        self._client: RedisClient | None = None
        self._reason: str | None = "Redis has not been reached yet."
        self._tried = trio.Event()
        self._closing = trio.Event()
        # Waited for as long as there is a client: what was said of an earlier one is forgotten with it.
        self._restart = Signal()
        self._connecting = trio.CancelScope()

    # --- for publishers ---

    def unavailable(self) -> str | None:
        """See `Engine.unavailable`."""
        return self._reason

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
            Figure("redis_losses", "Times that Redis was lost.", self._losses, total=True),
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
            return await self._publish_batch(events)
        finally:
            self._places.release()

    async def _publish_batch(self, events: Sequence[Event]) -> Receipt:
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user, []).append(event)
        users = list(by_user.items())

        async def publish(client: RedisClient) -> int:
            await self._refuse_deleted(client, users)
            return sum(await _for_users(client, users, self._publish))

        accepted = await self._confirmed(publish)
        return Receipt(accepted, len(events) - accepted)

    async def _publish(self, client: RedisClient, users: _EventsOfUsers) -> int:
        settings = self._settings
        keys: list[str] = []
        arguments: list[str | bytes | int] = [
            settings.history_events,
            _milliseconds(settings.history_seconds),
            _milliseconds(settings.cursor_seconds),
            _milliseconds(settings.idempotency_seconds),
            publishing(client),
        ]
        for user, events in users:
            keys += [self._keys.of_user(user, "events"), self._keys.of_user(user, "head")]
            arguments += [new_epoch(), self._keys.of_user(user, "live"), len(events)]
            for event in events:
                if event.id is not None:
                    keys.append(self._key_of_id(event))
                arguments += ["0" if event.id is None else "1", encode_stored(event)]
        accepted: int = await client.register_script(PUBLISH)(keys, arguments)
        return accepted

    async def _refuse_deleted(self, client: RedisClient, users: _EventsOfUsers) -> None:
        """Refuse the tokens of users who are deleted: before that is accepted, since there may be no room."""
        named = [
            (user, [event for event in events if event.name is EventName.USER_DELETE])
            for user, events in users
        ]
        deleted = [(user, events) for user, events in named if events]
        known = set().union(*await _for_users(client, deleted, self._known))
        now = self._clock.now()
        until = now + self._settings.revocation_seconds
        deletions = [
            Disconnect(user, at=now, until=until)
            for user, events in deleted
            # What was accepted before is not done again: the user may have begun anew.
            if any(event.id is None or self._key_of_id(event).encode() not in known for event in events)
        ]
        if deletions:
            await self._control.tell(client, deletions, close=False)

    async def _known(self, client: RedisClient, users: _EventsOfUsers) -> list[bytes]:
        """The keys of the ids that were accepted before."""
        keys = [self._key_of_id(event) for _, events in users for event in events if event.id is not None]
        known: list[bytes] = await client.register_script(KNOWN)(keys) if keys else []
        return known

    def _key_of_id(self, event: Event) -> str:
        return self._keys.of_user(event.user, f"id:{event.id}")

    async def disconnect(self, disconnect: Disconnect) -> int:
        """See `Engine.disconnect`. Counts the closed connections of all nodes that answer within a second."""
        return await self._confirmed(lambda client: self._control.tell_and_count(client, disconnect))

    async def _disconnect_uncounted(self, disconnect: Disconnect) -> None:
        """For the intake, where nobody is told how many: those that come after it need not wait."""
        await self._confirmed(lambda client: self._control.tell(client, [disconnect], close=True))

    async def _confirmed(
        self,
        ask: Callable[[RedisClient], Awaitable[T]],
        otherwise: str = "Redis did not confirm it; it may have been done or not.",
    ) -> T:
        """Have Redis do something for a publisher.

        Args:
            ask: Does it.
            otherwise: The sentence of the error.

        Raises:
            EngineUnavailableError: If it has not said in time that it has.
        """
        client = self._client
        if client is None or self._closing.is_set():
            raise self._unavailable()
        try:
            with trio.fail_after(self._settings.publish_timeout):
                return await ask(client)
        except (*REDIS_ERRORS, trio.TooSlowError) as error:
            self._note_failure(client, error)
            raise EngineUnavailableError(otherwise, retry_after=1) from None

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """See `Engine.who_is_there`. Waits a second for the nodes."""
        return await self._confirmed(
            lambda client: self._control.who_is_there(client, user, vaults), "Redis did not answer."
        )

    def _note_failure(self, client: RedisClient, error: Exception) -> None:
        """Redis did not do for a publisher what it should have."""
        refused = isinstance(error, ResponseError)
        _log.warning("Redis did not confirm", reason=str(error) if refused else type(error).__name__)
        # A client that has lost a connection is not to be used any more. To be slow is no loss.
        slow = isinstance(error, trio.TooSlowError)
        if client is self._client and (isinstance(error, ReadOnlyError) or not (refused or slow)):
            self._restart.set()

    def _unavailable(self) -> EngineUnavailableError:
        if self._closing.is_set():
            return EngineUnavailableError("The server is shutting down.", retry_after=5)
        return EngineUnavailableError(self._reason or "Redis can't be reached.", retry_after=1)

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
            nursery.start_soon(self._connect)
            await self._tried.wait()
            task_status.started()

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        self._closing.set()
        self._restart.set()
        self._queue.close()
        if self._client is None:
            self._connecting.cancel()
        await trio.lowlevel.checkpoint()

    async def _connect(self) -> None:
        with self._connecting:
            await self._stay_connected()
        self._tried.set()

    async def _stay_connected(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            began = trio.current_time()
            try:
                await self._connect_once()
            except REDIS_ERRORS as error:
                # coredis may make an error of being cancelled.
                await trio.lowlevel.checkpoint_if_cancelled()
                self._lose(str(error))
            self._client = None
            self._tried.set()
            if self._closing.is_set():
                return
            self._reason = self._reason or "The connection to Redis is being made anew."
            attempt = 0 if trio.current_time() - began > self._settings.redis_retry else attempt + 1
            longest = min(self._settings.redis_retry, _FIRST_PAUSE * 2.0 ** min(attempt, 16))
            with trio.move_on_after(longest * random.random()):  # noqa: S311 - spreads nodes, hides nothing
                await self._closing.wait()

    def _lose(self, reason: str) -> None:
        if self._reason is None or not self._tried.is_set():
            _log.warning("Redis is lost; trying again", reason=reason)
        if self._reason is None:
            self._losses += 1
        self._reason = "Redis can't be reached just now."

    async def _connect_once(self) -> None:
        """Be connected until the connection is lost or the engine closed."""
        settings = self._settings
        async with (
            open_client(settings.engine, settings.redis_timeout) as client,
            open_pubsub(client) as pubsub,
        ):
            if self._closing.is_set():
                return
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, pubsub)
                    await pubsub.subscribe(*self._control.channels)
                    await self._control.recall(client)
                    nursery.start_soon(self._control.questions.run, client)
                    nursery.start_soon(self._streams.run, client, pubsub)
                    if settings.intake == "on":
                        nursery.start_soon(self._run_intake, client)
                    self._client = client
                    self._reason = None
                    self._tried.set()
                    _log.info("Redis is there")
                    await self._restart.wait()
                    if not self._closing.is_set():
                        raise RedisUnavailableError("Redis did not take what it was sent.")
                    nursery.cancel_scope.cancel()
            finally:
                self._client = None

    async def _run_intake(self, client: RedisClient) -> None:
        await run_intake(
            client,
            self._keys,
            self._settings.publish_limits(),
            self.publish,
            self._disconnect_uncounted,
            now=self._clock.now,
            revocation_seconds=self._settings.revocation_seconds,
            counts=self._intake_counts,
        )

    async def _listen(self, pubsub: PubSub) -> None:
        async for message in pubsub:
            if not self._control.hear(message):
                self._streams.hear(message)


async def _for_users(
    client: RedisClient,
    users: _EventsOfUsers,
    send: Callable[[RedisClient, _EventsOfUsers], Awaitable[T]],
) -> list[T]:
    """Send what concerns users: in one go, or to a Cluster for each of them, some at a time."""
    if not is_cluster(client):
        return [await send(client, users)] if users else []
    said: list[T] = []
    limit = trio.CapacityLimiter(_USERS_AT_ONCE)

    async def send_one(user: tuple[str, Sequence[Event]]) -> None:
        async with limit:
            said.append(await send(client, [user]))

    try:
        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(send_one, user)
    except BaseExceptionGroup as group:
        raise_single(group)
        raise
    return said


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
