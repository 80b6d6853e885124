"""The users' streams that this node follows, and how a device comes to follow one."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio
from attrs import define

from localful_ws.engine import EngineUnavailableError, Position, Subscriber, replay_limits
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.feeds import Feed, Id, Outcome, Reading, Watch
from localful_ws.engine.redis.keys import Keys, new_epoch, read_cursor, write_cursor
from localful_ws.engine.redis.link import Message
from localful_ws.engine.redis.lua import READ
from localful_ws.engine.redis.queue import Followed, RouteQueue
from localful_ws.engine.redis.shards import PASSING, Shards
from localful_ws.engine.redis.wire import UNREADABLE, decode_live, decode_reading
from localful_ws.settings import Settings
from localful_ws.wakeup import Future, Signal

_log = structlog.get_logger(__name__)

_READERS: Final = 16
# A stream that is read because something was missed is read in such portions.
_PORTION_EVENTS: Final = 250
_PORTION_BYTES: Final = 1024 * 1024
_PAUSE_IN_TROUBLE: Final = 1.0
_PAUSE_IN_PASSING: Final = 0.2
_TELL_AGAIN_AFTER: Final = 60.0
_MOST_TROUBLES: Final = 100
# Losses of so many seconds are one line in the log: as a rule all users lose something at once.
_TELL_TOGETHER: Final = 1.0
# What an event as it is kept has besides its data.
_ENVELOPE: Final = 4096
# So often in the time that they last the heads of streams are renewed.
_KEEPINGS: Final = 3


@define
class StreamCounts:
    """What an operator may want to know.

    Attributes:
        readings: Times that a stream was read because messages were missing.
        lost: Times that a user's devices were closed because events could not be had any more.
    """

    readings: int = 0
    lost: int = 0


class Streams:
    """The streams of all users who have a device here.

    Args:
        settings: How much may be read at once, and for how long somebody may wait.
        keys: The names of things.
        queue: Where what is taken in goes.
        shards: The servers.
        control: Knows whether this node knows of all revocations: nobody is let in before.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        queue: RouteQueue,
        shards: Shards,
        control: Control,
    ) -> None:
        self.counts = StreamCounts()
        self._keys = keys
        self._queue = queue
        self._join_timeout = settings.auth_timeout
        self._head_milliseconds = round(settings.cursor_seconds * 1000)
        self._replay_limits = replay_limits(settings)
        self._followed: dict[str, Followed] = {}
        self._by_channel: dict[bytes, Followed] = {}
        self._shards = shards
        self._control = control
        self._max_event_bytes = settings.max_publish_bytes + _ENVELOPE
        # Streams to be read, in order.
        self._to_read: dict[Followed, None] = {}
        self._something_to_read = Signal()
        # Why a stream could not be read lately, and when that was told.
        self._troubles: dict[str, float] = {}
        # Devices that were closed since that was last told, by user.
        self._closed = Counter[str]()
        self._something_closed = Signal()

    def __len__(self) -> int:
        """How many are followed."""
        return len(self._followed)

    # --- for devices ---

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        """See `localful_ws.engine.Engine.join`."""
        followed = self._follow(user)
        begun = False
        try:
            with trio.move_on_after(self._join_timeout):
                await self._shards.wait_for(self._keys.of_user(user, "live"))
                while not followed.routed:
                    await followed.changed.wait()
                if since is None:
                    await self._control.wait_in_force()
                    begin(Position(followed.routed))
                    begun = True
                else:
                    position = None
                    while position is None or not self._control.in_force:
                        await self._control.wait_in_force()
                        position = await self._find_place(followed, since)
                    done = Future[None]()
                    if self._queue.put_call(lambda _: done.set_by(lambda: begin(position))):
                        await done.wait()
                        begun = True
        except REDIS_ERRORS as error:
            self._tell_trouble(error)
        finally:
            if not begun:
                self.leave(user)
        if not begun:
            raise EngineUnavailableError("The user's events can't be followed just now.", retry_after=1)

    async def pause(self, user: str, act: Callable[[str], object]) -> None:
        """See `localful_ws.engine.Engine.pause`."""
        followed = self._followed.get(user)
        if followed is None:
            return  # the device is gone
        if self._queue.is_idle():
            act(followed.routed)
            return
        done = Future[object]()
        if self._queue.put_call(lambda _: done.set_by(lambda: act(followed.routed))):
            with trio.move_on_after(self._join_timeout):
                await done.wait()
                return
        raise EngineUnavailableError("The node is too busy to answer.", retry_after=1)

    async def _find_place(self, followed: Followed, since: str) -> Position:
        """Find out what was missed since a cursor, up to what has been taken in when this returns."""
        feed = followed.feed
        while feed.behind:
            await followed.changed.wait()
        cursor = read_cursor(since)
        if cursor is None or cursor[0] != feed.epoch:
            return Position(write_cursor(feed.epoch, feed.last))
        watch = Watch()
        feed.watches.append(watch)
        try:
            limits = self._replay_limits
            reading = await self._read(followed, cursor[1], limits.max_events, limits.max_bytes)
            resumable = not reading.more and reading.follows(*cursor)
            if reading.epoch != feed.epoch:
                # It was lost, and nobody has published since who would have said so.
                feed.fall_behind()
                self._want_reading(followed)
            # A message may be on its way; or the device was served by a node that is ahead of this one.
            while (feed.last < reading.last and not watch.broken) or feed.behind:
                await followed.changed.wait()
        finally:
            feed.watches.remove(watch)
        end = write_cursor(feed.epoch, feed.last)
        if not resumable or watch.broken:
            return Position(end)
        missed = [entry for _, entry in reading.entries]
        missed += [entry for place, entry in watch.entries if place > reading.last]
        if len(missed) > limits.max_events or sum(len(entry.frame) for entry in missed) > limits.max_bytes:
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
            self._shards.of(channel).subscriptions.drop(channel)

    def _follow(self, user: str) -> Followed:
        followed = self._followed.get(user)
        if followed is None:
            followed = self._followed[user] = Followed(user, Feed())
            channel = self._keys.of_user(user, "live").encode()
            self._by_channel[channel] = followed
            self._shards.of(channel).subscriptions.want(channel)
        followed.followers += 1
        return followed

    # --- what arrives ---

    async def run(self) -> None:
        """Follow all that are to be followed, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_heads)
            nursery.start_soon(self._tell_losses)
            for _ in range(_READERS):
                nursery.start_soon(self._read_on, nursery)

    def hear(self, message: Message) -> None:
        """Take a message, if it came over the channel of a stream that is followed."""
        followed = self._by_channel.get(message.channel)
        if followed is None:
            return
        feed = followed.feed
        try:
            live = decode_live(followed.user, message.data)
        except UNREADABLE:
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
        followed.changed.set()

    def subscribed(self, channels: Sequence[bytes]) -> None:
        """Take note of what is heard from now on."""
        for channel in channels:
            followed = self._by_channel.get(channel)
            if followed is not None:
                # It may have been read before, while an earlier subscription was on its way to its end.
                followed.feed.fall_behind()
                self._want_reading(followed)

    def _want_reading(self, followed: Followed) -> None:
        if not followed.reading:
            self._to_read[followed] = None
            self._something_to_read.set()

    async def _read_on(self, nursery: trio.Nursery) -> None:
        """Read streams that are behind, one after the other."""
        while True:
            while not self._to_read:
                await self._something_to_read.wait()
            followed = next(iter(self._to_read))
            del self._to_read[followed]
            if self._shards.of(self._keys.of_user(followed.user, "live")).link is None:
                continue  # wanted again when its server is there, and the channel subscribed to
            # What is wanted meanwhile is noticed by the feed.
            followed.reading = True
            try:
                while followed.feed.behind and followed.followers:
                    await self._queue.wait_room()
                    await self._read_once(followed)
            except REDIS_ERRORS as error:
                if isinstance(error, RedisRefusedError) and error.code in PASSING:
                    pause = _PAUSE_IN_PASSING
                else:
                    pause = _PAUSE_IN_TROUBLE
                    self._tell_trouble(error)
                nursery.start_soon(self._read_later, followed, pause)
            finally:
                followed.reading = False

    async def _read_later(self, followed: Followed, pause: float) -> None:
        """Have a stream read again that could not be. Meanwhile others are read."""
        await trio.sleep(pause)
        if followed.followers and followed.feed.behind:
            self._want_reading(followed)

    def _tell_trouble(self, error: Exception) -> None:
        reason, now = str(error), trio.current_time()
        if now < self._troubles.get(reason, -_TELL_AGAIN_AFTER) + _TELL_AGAIN_AFTER:
            return
        if len(self._troubles) >= _MOST_TROUBLES:
            self._troubles.clear()
        self._troubles[reason] = now
        # To lose Redis is nothing to alarm anybody here.
        log = _log.warning if isinstance(error, RedisUnavailableError) else _log.error
        log("a stream can't be read; trying on", reason=reason)

    async def _keep_heads(self) -> None:
        """Have the ends of streams remembered for as long as somebody follows them who may resume."""
        while True:
            await trio.sleep(self._head_milliseconds / 1000 / _KEEPINGS)
            for user in list(self._followed):
                head = self._keys.of_user(user, "head")
                try:
                    await self._shards.call(head, "PEXPIRE", head, self._head_milliseconds)
                except REDIS_ERRORS as error:
                    self._tell_trouble(error)

    async def _read_once(self, followed: Followed) -> None:
        feed = followed.feed
        fresh = not feed.epoch
        if not fresh:
            self.counts.readings += 1
        since, most = feed.begin_reading(), 0 if fresh else _PORTION_EVENTS
        reading = await self._read(
            followed, since, most, _PORTION_BYTES, taken_in=feed.epoch, is_patient=False
        )
        outcome, entries = feed.take_reading(reading)
        if fresh:
            followed.routed = write_cursor(feed.epoch, feed.last)
        if entries:
            self._queue.put(followed, entries)
        if outcome is Outcome.LOST:
            self.counts.lost += 1
            end = write_cursor(feed.epoch, feed.last)
            self._queue.put_call(lambda subscriber: self._lose_events(subscriber, followed, end))
        followed.changed.set()

    def _lose_events(self, subscriber: Subscriber, followed: Followed, end: str) -> None:
        if followed.followers:
            closed = subscriber.lose(followed.user)
            followed.routed = end
            if closed:
                self._closed[followed.user] += closed
                self._something_closed.set()

    async def _tell_losses(self) -> None:
        while True:
            while not self._closed:
                await self._something_closed.wait()
            await trio.sleep(_TELL_TOGETHER)
            _log.warning(
                "events that were missed can't be had any more; devices are closed with 4413",
                users=len(self._closed),
                devices=self._closed.total(),
                reason="Redis came back empty or older, or its history does not reach back far enough",
            )
            self._closed.clear()

    async def _read(
        self,
        followed: Followed,
        since: Id,
        max_events: int,
        max_bytes: int,
        *,
        taken_in: str = "",
        is_patient: bool = True,
    ) -> Reading:
        user = followed.user
        keys = [self._keys.of_user(user, "events"), self._keys.of_user(user, "head")]
        arguments: list[str | int] = [
            new_epoch(),
            self._head_milliseconds,
            f"{since[0]}-{since[1]}",
            max_events,
            max_bytes,
            taken_in,
            self._shards.publish_command,
            self._keys.of_user(user, "live"),
            self._max_event_bytes,
        ]
        reply = await self._shards.run_script(READ, keys, arguments, is_patient=is_patient)
        return decode_reading(user, reply)
