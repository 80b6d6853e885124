"""A Redis of which there is as much as the engine uses: three scripts, a hash, channels.

The engine runs on it as it does on the real one, through a client and a subscription that can fail, stall,
and lose answers. Real Redis is what other tests are for.
"""

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, TypeVar

import trio
from attrs import Factory, define, field

from localful_ws.engine.redis.errors import RedisUnavailableError, raise_single
from localful_ws.engine.redis.feeds import BEGINNING, Id
from localful_ws.engine.redis.keys import read_id
from localful_ws.engine.redis.lua import KNOWN, PUBLISH, READ, REVOKE
from localful_ws.engine.redis.pubsub import Message

_CHUNKS_AHEAD = 1000
T = TypeVar("T")


@define(eq=False)
class _Stream:
    """A user's stream and head."""

    epoch: str = ""
    last: Id = BEGINNING
    entries: list[tuple[Id, Id, bytes]] = Factory(list)
    lasts_until: float = 0.0

    def trim(self, events: int, oldest: int) -> None:
        """Keep so many events, none of them older than that millisecond."""
        self.entries = [entry for entry in self.entries if entry[0][0] >= oldest][-events:] if events else []


@define(eq=False)
class Connection:
    """What one node has of it: a client and a subscription.

    Attributes:
        node: The node's name.
        since: When it was made, on Trio's clock.
        lost: Set when it is lost.
    """

    redis: "SimulatedRedis"
    node: str
    since: float
    lost: trio.Event = field(factory=trio.Event)
    channels: set[bytes] = Factory(set)
    stalled_until: float = 0.0
    _messages: deque[tuple[float, Message]] = Factory(deque)
    _came: trio.Event = field(factory=trio.Event)

    # --- the client ---

    def register_script(self, script: str) -> Callable[[Sequence[str], Sequence[Any]], Awaitable[Any]]:
        async def call(keys: Sequence[str], arguments: Sequence[Any] = ()) -> Any:
            return await self._command(lambda: self.redis.run_script(script, keys, arguments))

        return call

    async def publish(self, channel: str, data: bytes) -> int:
        return await self._command(lambda: self.redis.publish(channel.encode(), data))

    async def pexpire(self, key: str, milliseconds: int) -> bool:
        return await self._command(lambda: True)

    async def hscan(self, key: str, cursor: int, count: int) -> tuple[int, dict[bytes, bytes]]:
        found = {name.encode(): f"{at} {till}".encode() for name, (at, till) in self.redis.revoked.items()}
        return await self._command(lambda: (0, found))

    async def _command(self, do: Callable[[], T]) -> T:
        await self._travel()
        answer = do()
        if self.redis.random.random() < self.redis.lose_answers:
            self.redis.lose(self)
        await self._travel()
        return answer

    async def _travel(self) -> None:
        low, high = self.redis.delay
        seconds = max(self.redis.random.uniform(low, high), self.stalled_until - trio.current_time())
        if seconds > self.redis.timeout:
            await trio.sleep(self.redis.timeout)
            self.redis.lose(self)
        elif seconds > 0:
            with trio.move_on_after(seconds):
                await self.lost.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.lost.is_set():
            raise RedisUnavailableError("The connection is lost.")

    # --- the subscription ---

    async def subscribe(self, *channels: str | bytes) -> None:
        names = {channel.encode() if isinstance(channel, str) else channel for channel in channels}
        await self._command(lambda: self.channels.update(names))

    async def unsubscribe(self, *channels: str | bytes) -> None:
        names = {channel.encode() if isinstance(channel, str) else channel for channel in channels}
        await self._command(lambda: self.channels.difference_update(names))

    def tell(self, message: Message) -> None:
        """Have a message come here."""
        if len(self._messages) >= _CHUNKS_AHEAD:  # as client-output-buffer-limit has it
            self.redis.lose(self)
            return
        low, high = self.redis.delay
        arrival = max(trio.current_time() + self.redis.random.uniform(low, high), self.stalled_until)
        if self._messages:
            arrival = max(arrival, self._messages[-1][0])
        self._messages.append((arrival, message))
        self._came.set()

    def __aiter__(self) -> "Connection":
        return self

    async def __anext__(self) -> Message:
        while True:
            if self.lost.is_set():
                raise RedisUnavailableError("The connection is lost.")
            if self._messages and self._messages[0][0] <= trio.current_time():
                return self._messages.popleft()[1]
            self._came = trio.Event()
            deadline = self._messages[0][0] if self._messages else trio.current_time() + 1e9
            with trio.move_on_at(deadline):
                await self._came.wait()

    def drop(self) -> None:
        """It is lost."""
        self.lost.set()
        self._came.set()


class SimulatedRedis:
    """What all nodes share.

    Args:
        random: Draws delays.
        timeout: Seconds after which a node gives an answer up.
        now: The time of day as Redis reads it.
        accepted: Called with the user, epoch, id and stored event of what is accepted.

    Attributes:
        delay: The least and the most seconds that something is under way to or from a node.
        lose_answers: How often the connection is lost between a command and its answer.
        up: Whether it can be connected to.
        revoked: Since when and until when whom.
    """

    def __init__(
        self,
        random: Random,
        timeout: float,
        now: Callable[[], float],
        accepted: Callable[[str, str, Id, bytes], None],
    ) -> None:
        self.random = random
        self.timeout = timeout
        self.delay = (0.0, 0.0)
        self.lose_answers = 0.0
        self.up = True
        self.revoked: dict[str, tuple[str, str]] = {}
        self.connections: list[Connection] = []
        self._now = now
        self._accepted = accepted
        self._streams: dict[str, _Stream] = {}
        _there.set(self)
        self._ids: dict[str, float] = {}

    # --- connections ---

    @asynccontextmanager
    async def open(self, node: str) -> AsyncIterator[Connection]:
        """Connect; lost when the connection is."""
        await trio.sleep(self.random.uniform(*self.delay))
        if not self.up:
            raise RedisUnavailableError("Redis can't be reached.")
        connection = Connection(self, node, trio.current_time())
        self.connections.append(connection)
        try:
            yield connection
        except BaseExceptionGroup as group:
            raise_single(group)
            raise
        finally:
            self.lose(connection)

    def lose(self, connection: Connection) -> None:
        """Lose a connection."""
        connection.drop()
        if connection in self.connections:
            self.connections.remove(connection)

    def go_down(self) -> None:
        """Be away: all connections are lost, and none can be made."""
        self.up = False
        for connection in tuple(self.connections):
            self.lose(connection)

    def stall(self, seconds: float) -> None:
        """Answer nobody for a while."""
        for connection in self.connections:
            connection.stalled_until = trio.current_time() + seconds

    def forget_heads(self) -> None:
        """Lose all streams: every one is begun anew."""
        self._streams.clear()

    # --- commands ---

    def publish(self, channel: bytes, data: bytes) -> int:
        """PUBLISH."""
        told = [each for each in self.connections if channel in each.channels]
        for each in told:
            each.tell(Message(channel, data))
        return len(told)

    def has_id(self, key: str) -> bool:
        """Whether a published id is remembered."""
        return self._ids.get(key, 0.0) > self._now()

    def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """EVALSHA."""
        if script == PUBLISH:
            return self._publish(list(keys), list(arguments))
        if script == READ:
            return self._read(keys, arguments)
        if script == REVOKE:
            return self._revoke(arguments)
        if script == KNOWN:
            return [key.encode() for key in keys if self.has_id(key)]
        raise AssertionError("a script that is not simulated")

    def _publish(self, keys: list[str], arguments: list[Any]) -> int:
        history_events, history_ms, _head_ms, id_ms, _ = arguments[:5]
        key, arg, accepted = 0, 5, 0
        while arg < len(arguments):
            stream_key = keys[key]
            epoch, channel, count = arguments[arg : arg + 3]
            key, arg = key + 2, arg + 3
            stream = self._stream(stream_key, epoch)
            before, told = stream.last, []
            for _ in range(count):
                new = True
                if arguments[arg] == "1":
                    new = self._take_id(keys[key], id_ms)
                    key += 1
                if new:
                    told.append(self._append(_user_of(stream_key), stream, arguments[arg + 1]))
                arg += 2
            if told:
                stream.lasts_until = self._now() + history_ms / 1000
                stream.trim(history_events if history_ms else 0, max(0, self._milliseconds() - history_ms))
                head = f'{{"epoch":"{stream.epoch}","prev":"{_text(before)}","events":['
                self.publish(channel.encode(), head.encode() + b",".join(told) + b"]}")
            accepted += len(told)
        return accepted

    def _stream(self, key: str, epoch: str) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(epoch)
        elif stream.lasts_until <= self._now():
            stream.entries = []
        return stream

    def _take_id(self, key: str, milliseconds: int) -> bool:
        if not milliseconds:
            return True
        if self.has_id(key):
            return False
        self._ids[key] = self._now() + milliseconds / 1000
        return True

    def _append(self, user: str, stream: _Stream, stored: bytes) -> bytes:
        now = self._milliseconds()
        ms, sequence = stream.last
        place = (now, 0) if now > ms else (ms, sequence + 1)
        stream.entries.append((place, stream.last, stored))
        stream.last = place
        self._accepted(user, stream.epoch, place, stored)
        return b'["%b",%b]' % (_bytes(place), stored)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

    def _read(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        new_epoch, _, since_text, left, bytes_left, taken_in, _, channel = arguments
        since = read_id(since_text)
        stream = self._stream(keys[0], new_epoch)
        found: list[tuple[Id, Id, bytes]] = []
        more = left == 0
        if not more:
            for entry in stream.entries:
                if entry[0] > since:
                    left, bytes_left = left - 1, bytes_left - len(entry[2])
                    if left < 0 or (bytes_left < 0 and found):
                        more = True
                        break
                    found.append(entry)
        if taken_in == stream.epoch and (stream.last < since or (found and found[0][1] < since)):
            stream.epoch, stream.entries = new_epoch, []
            more, found = False, []
            told = {"epoch": stream.epoch, "prev": _text(stream.last), "events": []}
            self.publish(channel.encode(), json.dumps(told).encode())
        flat = [part for place, before, stored in found for part in (_bytes(place), _bytes(before), stored)]
        return [stream.epoch.encode(), _bytes(stream.last), int(more), flat]

    def _revoke(self, arguments: Sequence[Any]) -> int:
        now, most, _, channel, *orders = arguments
        for known, (_, until) in list(self.revoked.items()):
            if float(until) <= float(now):
                del self.revoked[known]
        new = set(orders[::4]) - self.revoked.keys()
        if new and len(self.revoked) + len(new) > most:
            return -1
        told = 0
        for name, at, till, message in zip(*[iter(orders)] * 4, strict=True):
            known_at, known_till = self.revoked.get(name, (at, till))
            self.revoked[name] = (max(at, known_at, key=float), max(till, known_till, key=float))
            told += self.publish(channel.encode(), message)
        return told


@asynccontextmanager
async def open_pubsub(client: Connection) -> AsyncIterator[Connection]:
    """The subscription of a client, which is its other half here; leaves when it is lost."""
    yield client


def _user_of(key: str) -> str:
    return key.partition("{@")[2].partition("}")[0]


def _text(place: Id) -> str:
    return f"{place[0]}-{place[1]}"


def _bytes(place: Id) -> bytes:
    return _text(place).encode()


_there: trio.lowlevel.RunVar["SimulatedRedis | None"] = trio.lowlevel.RunVar("redis", default=None)


def opens(url: str, timeout: float) -> AbstractAsyncContextManager[Connection]:
    """Stands in for `localful_ws.engine.redis.clients.open_client`: the URL's path names the node."""
    redis = _there.get()
    assert redis is not None
    return redis.open(url.rpartition("/")[2])
