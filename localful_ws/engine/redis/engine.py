"""The engine of many nodes: streams and channels in Redis or Valkey."""

import random
import secrets
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

import msgspec
import structlog
import trio
from attrs import define, field
from coredis.exceptions import ReadOnlyError

from localful_ws.engine import EngineUnavailableError, Position, Receipt, Subscriber
from localful_ws.engine.redis.clients import (
    REDIS_ERRORS,
    PubSub,
    RedisClient,
    is_cluster,
    open_client,
    open_pubsub,
)
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.feeds import BEGINNING, Feed, Id, Outcome, Reading, Watch
from localful_ws.engine.redis.intake import IntakeCounts, run_intake
from localful_ws.engine.redis.keys import Keys, read_cursor, write_cursor
from localful_ws.engine.redis.queue import Followed, RouteQueue
from localful_ws.engine.redis.lua import PUBLISH, READ
from localful_ws.engine.redis.subscriptions import Subscriptions
from localful_ws.engine.redis.wire import decode_live, decode_reading, encode_stored
from localful_ws.metrics import Figure
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.server.clock import Clock
from localful_ws.settings import Settings

_log = structlog.get_logger(__name__)

_READERS: Final = 16
# A stream that is read because something was missed is read in such portions.
_PORTION_EVENTS: Final = 250
_PORTION_BYTES: Final = 1024 * 1024
_FIRST_PAUSE: Final = 0.1


@define
class RedisCounts:
    """What an operator may want to know.

    Attributes:
        losses: Times that Redis was lost.
        readings: Times that a stream was read because messages were missing.
        lost: Users whose devices were closed because events could not be had any more.
    """

    losses: int = 0
    readings: int = 0
    lost: int = 0


@define(eq=False)
class _Joining:
    """Somebody who waits for a place in the queue.

    Attributes:
        begin: What to call there; None once it has been, or if it is not to be any more.
        failure: What it raised.
        done: Set when it has been called.
    """

    begin: Callable[[], None] | None
    failure: BaseException | None = None
    done: trio.Event = field(factory=trio.Event)

    def __call__(self, _: Subscriber) -> None:
        begin, self.begin = self.begin, None
        if begin is not None:
            try:
                begin()
            except Exception as error:  # noqa: BLE001 - raised again where it was asked for
                self.failure = error
        self.done.set()


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
        self._replay_limits = settings.replay_limits()
        self._queue = RouteQueue(settings.redis_queue_bytes)
        self._followed: dict[str, Followed] = {}
        self._by_channel: dict[bytes, Followed] = {}
        self._subscriptions = Subscriptions(self._subscribed)
        self._control = Control(settings, clock, self._keys, self._queue.put_call)
        # Streams to be read, in order.
        self._to_read: dict[Followed, None] = {}
        self._something_to_read = trio.Event()
        self._client: RedisClient | None = None
        self._reason: str | None = "Redis has not been reached yet."
        self._tried = trio.Event()
        self._back = trio.Event()
        self._closing = trio.Event()
        self._restart = trio.Event()
        self.counts = RedisCounts()
        self.intake_counts = IntakeCounts()

    # --- for publishers ---

    def unavailable(self) -> str | None:
        """See `Engine.unavailable`."""
        return self._reason

    def figures(self) -> Sequence[Figure]:
        """See `Engine.figures`."""
        counts, intake = self.counts, self.intake_counts
        return (
            Figure("redis_followed_users", "Users whose streams are followed.", len(self._followed)),
            Figure("redis_queue_bytes", "Events from Redis that wait to be routed.", self._queue.bytes),
            Figure("redis_losses", "Times that Redis was lost.", counts.losses, total=True),
            Figure(
                "redis_readings",
                "Times that a stream was read because messages were missing.",
                counts.readings,
                total=True,
            ),
            Figure(
                "redis_missed",
                "Times that a user's events were missed and could not be had any more.",
                counts.lost,
                total=True,
            ),
            Figure("intake_accepted", "Events taken from the intake.", intake.accepted, total=True),
            Figure("intake_rejected", "Entries of the intake rejected.", intake.rejected, total=True),
        )

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """See `Engine.publish`. In a cluster a batch is all or nothing for each user."""
        client = self._client
        if client is None or self._closing.is_set():
            raise self._unavailable()
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user, []).append(event)
        accepted = 0
        try:
            with trio.fail_after(self._settings.publish_timeout):
                for event in events:
                    if event.name is EventName.USER_DELETE:
                        await self._refuse_deleted(client, event.user)
                users = list(by_user.items())
                if is_cluster(client):
                    for user in users:
                        accepted += await self._publish(client, [user])
                elif users:
                    accepted = await self._publish(client, users)
        except (*REDIS_ERRORS, trio.TooSlowError) as error:
            if isinstance(error, ReadOnlyError):
                self._restart.set()
            _log.warning("a publish failed", error=type(error).__name__)
            raise EngineUnavailableError(
                "Redis did not confirm it; it may have been accepted or not.", retry_after=1
            ) from None
        return Receipt(accepted, len(events) - accepted)

    async def _publish(self, client: RedisClient, users: Sequence[tuple[str, Sequence[Event]]]) -> int:
        settings = self._settings
        keys: list[str] = []
        arguments: list[str | bytes | int] = [
            settings.history_events,
            _milliseconds(settings.history_seconds),
            _milliseconds(settings.cursor_seconds),
            _milliseconds(settings.idempotency_seconds),
            "SPUBLISH" if is_cluster(client) else "PUBLISH",
        ]
        for user, events in users:
            keys += [self._keys.of_user(user, "events"), self._keys.of_user(user, "head")]
            arguments += [_new_epoch(), self._keys.of_user(user, "live"), len(events)]
            for event in events:
                if event.id is not None:
                    keys.append(self._keys.of_user(user, f"id:{event.id}"))
                arguments += ["0" if event.id is None else "1", encode_stored(event)]
        accepted = await client.register_script(PUBLISH)(keys, arguments)
        assert isinstance(accepted, int)
        return accepted

    async def _refuse_deleted(self, client: RedisClient, user: str) -> None:
        now = self._clock.now()
        deletion = Disconnect(user=user, at=now, until=now + self._settings.revocation_seconds, close=False)
        try:
            await self._control.tell(client, deletion)
        except TooManyRevocationsError:
            _log.warning("a deleted user's tokens can't be remembered as revoked: max-revocations is reached")

    async def disconnect(self, disconnect: Disconnect) -> int:
        """See `Engine.disconnect`. Counts the closed connections of all nodes that answer within a second."""
        client = self._client
        if client is None or self._closing.is_set():
            raise self._unavailable()
        try:
            with trio.fail_after(self._settings.publish_timeout):
                return await self._control.tell(client, disconnect)
        except (*REDIS_ERRORS, trio.TooSlowError):
            raise EngineUnavailableError(
                "Redis did not confirm it; it may have been done or not.", retry_after=1
            ) from None

    def _unavailable(self) -> EngineUnavailableError:
        if self._closing.is_set():
            return EngineUnavailableError("The server is shutting down.", retry_after=5)
        return EngineUnavailableError(self._reason or "Redis can't be reached.", retry_after=1)

    # --- for devices ---

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        """See `Engine.join`."""
        followed = self._follow(user)
        joining: _Joining | None = None
        began = False
        try:
            with trio.move_on_after(self._settings.auth_timeout):
                while self._client is None:
                    await self._back.wait()
                if since is None:
                    while not followed.routed:
                        await followed.wait_change()
                    begin(Position(followed.routed))
                    began = True
                    return
                position = await self._find_place(followed, since)
                joining = _Joining(lambda: begin(position))
                self._queue.put_call(joining)
                await joining.done.wait()
        except (*REDIS_ERRORS, trio.ClosedResourceError):
            pass
        finally:
            if joining is not None:
                began = joining.begin is None and joining.failure is None
                joining.begin = None
            if not began:
                self.leave(user)
        if joining is not None and joining.failure is not None:
            raise joining.failure
        if not began:
            raise EngineUnavailableError("The user's events can't be followed just now.", retry_after=1)

    async def _find_place(self, followed: Followed, since: str) -> Position:
        """Find out what was missed since a cursor, up to what has been taken in when this returns."""
        feed = followed.feed
        while feed.behind:
            await followed.wait_change()
        cursor = read_cursor(since)
        if cursor is None or cursor[0] != feed.epoch:
            return Position(write_cursor(feed.epoch, feed.last))
        watch = Watch()
        feed.watches.append(watch)
        try:
            limits = self._replay_limits
            reading = await self._read(followed, cursor[1], limits.max_events, limits.max_bytes)
            resumable = not reading.more and reading.follows(*cursor)
            # A message may be on its way; or the device was served by a node that is ahead of this one.
            while (feed.last < reading.last and not watch.broken) or feed.behind:
                await followed.wait_change()
        finally:
            feed.watches.remove(watch)
        end = write_cursor(feed.epoch, feed.last)
        if not resumable or watch.broken:
            return Position(end)
        missed = [entry for _, entry in reading.entries]
        missed += [entry for id, entry in watch.entries if id > reading.last]
        if len(missed) > limits.max_events:
            return Position(end)
        return Position(end, missed)

    def leave(self, user: str) -> None:
        """See `Engine.leave`."""
        followed = self._followed[user]
        followed.followers -= 1
        if not followed.followers:
            del self._followed[user]
            channel = self._keys.of_user(user, "live").encode()
            del self._by_channel[channel]
            self._to_read.pop(followed, None)
            self._subscriptions.drop(channel)

    def cursor(self, user: str) -> str:
        """See `Engine.cursor`."""
        return self._followed[user].told

    def _follow(self, user: str) -> Followed:
        followed = self._followed.get(user)
        if followed is None:
            followed = self._followed[user] = Followed(user, Feed())
            channel = self._keys.of_user(user, "live").encode()
            self._by_channel[channel] = followed
            self._subscriptions.want(channel)
        followed.followers += 1
        return followed

    # --- what arrives ---

    async def run(
        self, subscriber: Subscriber, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """See `Engine.run`. Starts when Redis has been reached, or has been tried to."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._queue.run, subscriber)
            nursery.start_soon(self._stay_connected)
            await self._tried.wait()
            task_status.started()

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        self._closing.set()
        self._restart.set()
        self._queue.close()
        await trio.lowlevel.checkpoint()

    async def _stay_connected(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            began = trio.current_time()
            try:
                await self._connect_once()
            except REDIS_ERRORS as error:
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
            self.counts.losses += 1
        self._reason = "Redis can't be reached just now."

    async def _connect_once(self) -> None:
        """Be connected until the connection is lost or the engine closed."""
        settings = self._settings
        async with (
            open_client(settings.engine, settings.redis_timeout) as client,
            open_pubsub(client) as pubsub,
        ):
            self._restart = trio.Event()
            if self._closing.is_set():
                return
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, pubsub)
                    await pubsub.subscribe(*self._control.channels)
                    await self._control.recall(client)
                    nursery.start_soon(self._control.answer, client)
                    self._client = client
                    self._to_read.clear()
                    for followed in self._followed.values():
                        followed.feed.fall_behind()
                    nursery.start_soon(self._subscriptions.run, pubsub)
                    for _ in range(_READERS):
                        nursery.start_soon(self._read_on)
                    if settings.intake == "on":
                        nursery.start_soon(self._run_intake, client)
                    _log.info("Redis is there")
                    self._reason = None
                    self._tried.set()
                    self._back.set()
                    await self._restart.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self._client = None
                self._back = trio.Event()
                self._subscriptions.lose()

    async def _run_intake(self, client: RedisClient) -> None:
        await run_intake(
            client,
            self._settings.redis_prefix,
            self._settings.publish_limits(),
            self.publish,
            counts=self.intake_counts,
        )

    async def _listen(self, pubsub: PubSub) -> None:
        async for message in pubsub:
            followed = self._by_channel.get(message.channel)
            if followed is None:
                self._control.hear(message)
                continue
            feed = followed.feed
            try:
                live = decode_live(followed.user, message.data)
            except (msgspec.MsgspecError, KeyError, ValueError):
                _log.warning("a message of Redis can't be read")
                feed.fall_behind()
            else:
                if self._queue.is_full():
                    feed.fall_behind()
                else:
                    entries = feed.hear(live)
                    if entries:
                        self._queue.put(followed, entries)
            if feed.behind:
                self._want_reading(followed)
            followed.tell_change()

    def _subscribed(self, channels: Sequence[bytes]) -> None:
        for channel in channels:
            followed = self._by_channel.get(channel)
            if followed is not None:
                self._want_reading(followed)

    def _want_reading(self, followed: Followed) -> None:
        if not followed.reading:
            self._to_read[followed] = None
            self._something_to_read.set()

    async def _read_on(self) -> None:
        """Read streams that are behind, one after the other."""
        while True:
            while not self._to_read:
                self._something_to_read = trio.Event()
                await self._something_to_read.wait()
            followed = next(iter(self._to_read))
            del self._to_read[followed]
            # What is wanted meanwhile is noticed by the feed.
            followed.reading = True
            try:
                while followed.feed.behind and followed.followers:
                    await self._queue.wait_room()
                    await self._read_once(followed)
            finally:
                followed.reading = False

    async def _read_once(self, followed: Followed) -> None:
        feed = followed.feed
        fresh = not feed.epoch
        if not fresh:
            self.counts.readings += 1
        reading = await self._read(
            followed, feed.begin_reading(), 0 if fresh else _PORTION_EVENTS, _PORTION_BYTES
        )
        outcome, entries = feed.take_reading(reading)
        if fresh:
            followed.routed = followed.told = write_cursor(feed.epoch, feed.last)
        if entries:
            self._queue.put(followed, entries)
        if outcome is Outcome.LOST:
            self.counts.lost += 1
            end = write_cursor(feed.epoch, feed.last)
            self._queue.put_call(lambda subscriber: _lose_events(subscriber, followed, end))
        followed.tell_change()

    async def _read(self, followed: Followed, since: Id, max_events: int, max_bytes: int) -> Reading:
        client = self._client
        if client is None:
            raise TimeoutError
        keys = [self._keys.of_user(followed.user, "events"), self._keys.of_user(followed.user, "head")]
        arguments: list[str | int] = [
            _new_epoch(),
            _milliseconds(self._settings.cursor_seconds),
            f"{since[0]}-{since[1]}",
            max_events,
            max_bytes,
        ]
        reply = await client.register_script(READ)(keys, arguments)
        assert isinstance(reply, list)
        return decode_reading(followed.user, reply)


def _lose_events(subscriber: Subscriber, followed: Followed, end: str) -> None:
    subscriber.lose(followed.user)
    followed.routed = followed.told = end


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _new_epoch() -> str:
    return secrets.token_hex(8)
