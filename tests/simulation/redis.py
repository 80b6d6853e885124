"""A Redis of which there is as much as the engine uses: scripts, a hash, channels, and who comes after it.

The engine runs on it as it does on the real one, over links that can fail, stall, and lose answers. It can be
replaced by one that lacks what was written last. Real Redis is what other tests are for.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any

import trio

from localful_ws.engine.redis.errors import RedisUnavailableError, raise_single
from localful_ws.engine.redis.feeds import BEGINNING, Id
from localful_ws.engine.redis.keys import read_id
from localful_ws.engine.redis.link import Hear, Message, Server
from localful_ws.engine.redis.lua import KNOWN, PUBLISH, READ, RESTORE, REVOKE, Script

from .agenda import Agenda
from .redis_link import SimulatedLink
from .redis_stream import Place, Stream, Witness, text_of, user_of, written

_REMEMBERED = 10.0
_SCANNED = 2


class SimulatedRedis:
    """What all nodes share.

    Args:
        agenda: Has things arrive.
        random: Draws delays.
        now: The time of day as Redis reads it.
        witness: Who is told what becomes of events.

    Attributes:
        agenda: As above.
        random: As above.
        delay: The least and the most seconds that something is under way to or from a node.
        lose_answers: How often the connection is lost between a command and its answer.
        up: Whether it can be connected to.
        cut_off: By their numbers, until when nodes can't connect to it all the same, on Trio's clock.
        run_id: Which server it is.
        revoked: Since when and until when whom.
        links: The connections to it.
    """

    def __init__(self, agenda: Agenda, random: Random, now: Callable[[], float], witness: Witness) -> None:
        self.agenda = agenda
        self.random = random
        self.delay = (0.0, 0.0)
        self.lose_answers = 0.0
        self.up = True
        self.cut_off: dict[int, float] = {}
        self.run_id = 1
        self.revoked: dict[str, tuple[str, str]] = {}
        self.links: list[SimulatedLink] = []
        self._revoked_numbers: dict[str, int] = {}
        self._now = now
        self._witness = witness
        self._streams: dict[str, Stream] = {}
        self._ids: dict[str, float] = {}
        self._lacking: dict[str, dict[tuple[str, Id], tuple[Id, str, bytes]]] = {}
        self._written: list[Place] = []
        # How to take back what was written lately, and when that was.
        self._undo: deque[tuple[float, Callable[[], object]]] = deque()
        self._begun: dict[tuple[str, str], float] = {}
        _there.set(self)

    # --- connections ---

    @asynccontextmanager
    async def open(self, server: Server, hear: Hear | None) -> AsyncIterator[SimulatedLink]:
        """Connect; raises when the connection is lost. The number of the database names the node."""
        for _ in range(2):  # to be there, and to be greeted
            await trio.sleep(self.random.uniform(*self.delay))
        if not self.up or self.cut_off.get(server.db, 0.0) > trio.current_time():
            raise RedisUnavailableError("Redis can't be reached.")
        link = SimulatedLink(self, server, self._witness.node_of(server.db), hear)
        self.links.append(link)
        self._witness.opened(link)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.watch)
                yield link
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_single(group)
            raise
        finally:
            self.drop(link)

    def lose(self, link: SimulatedLink) -> None:
        """Lose a connection, and maybe the node's other one."""
        others = [each for each in self.links if each.node is link.node and each is not link]
        self.drop(link)
        if self.random.random() < 0.5:
            for each in others:
                self.drop(each)

    def drop(self, link: SimulatedLink) -> None:
        """Lose a connection."""
        link.lose()
        if link in self.links:
            self.links.remove(link)

    def go_down(self) -> None:
        """Be away: all connections are lost, and none can be made."""
        self.up = False
        for link in tuple(self.links):
            self.drop(link)

    def stall(self, seconds: float) -> None:
        """Answer nobody for a while."""
        for link in self.links:
            link.stall(seconds)

    # --- what becomes of it ---

    def forget_streams(self) -> None:
        """Lose all streams."""
        for key, stream in self._streams.items():
            self._witness.lost(user_of(key), stream.epoch, BEGINNING)
        self._streams.clear()
        self._undo.clear()

    def be_replaced(self, seconds: float) -> None:
        """Go down; what comes in its place lacks what was written in the last seconds."""
        self.go_down()
        self.run_id += 1
        since = trio.current_time() - seconds
        while self._undo and self._undo[-1][0] > since:
            self._undo.pop()[1]()
        for key, stream in self._streams.items():
            self._witness.lost(user_of(key), stream.epoch, stream.last)
        for (user, epoch), at in self._begun.items():
            if at > since and self.epoch_of(user) != epoch:
                self._witness.lost(user, epoch, BEGINNING)

    def begun(self, user: str, epoch: str) -> float:
        """When a stream was begun, on Trio's clock."""
        return self._begun[user, epoch]

    def epoch_of(self, user: str) -> str | None:
        """The epoch of a user's stream, if there is one."""
        for key, stream in self._streams.items():
            if user_of(key) == user:
                return stream.epoch
        return None

    def revoked_at(self, user: str | None, group: str | None) -> float | None:
        """Which tokens are refused: those issued before; None if none are."""
        if group is None:
            name = f"user:{user}"
        else:
            name = f"group:{group}" if user is None else f'login:["{user}","{group}"]'
        kept = self.revoked.get(name)
        return None if kept is None else float(kept[0])

    def _change(self, key: str) -> Stream | None:
        """A stream that is about to be changed."""
        stream = self._streams.get(key)
        before = None if stream is None else stream.copy()

        def take_back() -> None:
            if before is None:
                self._streams.pop(key, None)
            else:
                self._streams[key] = before

        self._note(take_back)
        if stream is not None and stream.lasts_until <= self._now():
            stream.entries = []
        return stream

    def _note(self, take_back: Callable[[], object]) -> None:
        now = trio.current_time()
        while self._undo and self._undo[0][0] < now - _REMEMBERED:
            self._undo.popleft()
        self._undo.append((now, take_back))

    def _begin(self, key: str, epoch: str, last: Id = BEGINNING) -> Stream:
        stream = self._streams[key] = Stream(epoch, last)
        self._begun.setdefault((user_of(key), epoch), trio.current_time())
        return stream

    # --- commands ---

    def do(self, link: SimulatedLink, command: Sequence[Any]) -> tuple[Any, Callable[[], object]]:
        """A command; what it is answered, and what to do when that has come."""
        self._written = []
        answer = self._do(list(command))
        places = self._written
        return answer, lambda: self._witness.acknowledged(link.node, places)

    def order(
        self, link: SimulatedLink, kind: str, channels: Iterable[bytes]
    ) -> tuple[None, Callable[[], object]]:
        """SUBSCRIBE, UNSUBSCRIBE."""
        if kind == "SUBSCRIBE":
            link.channels.update(channels)
        else:
            link.channels.difference_update(channels)
        self._witness.served(link)
        return None, lambda: None

    def _do(self, command: list[Any]) -> Any:
        match command:
            case ["EVALSHA" | "EVAL", script, count, *rest]:
                keys, arguments = [str(key) for key in rest[:count]], rest[count:]
                return _SCRIPTS[script](self, keys, arguments)
            case ["INFO", "server"]:
                return b"# Server\r\nrun_id:%040d\r\n" % self.run_id
            case ["HSCAN", _, cursor, *_]:
                return self._scan(int(cursor))
            case ["PUBLISH", channel, data]:
                return self.publish(channel.encode(), data)
            case ["HEXISTS" | "PEXPIRE", *_]:
                return 1
        raise AssertionError(f"{command[0]} is not simulated")

    def publish(self, channel: bytes, data: bytes) -> int:
        """PUBLISH."""
        told = [each for each in self.links if channel in each.channels]
        for each in told:
            each.tell(Message(channel, data))
        return len(told)

    def _scan(self, cursor: int) -> list[Any]:
        """A few at a time: those that are added meanwhile are published, too."""
        numbers = sorted(self._revoked_numbers[name] for name in self.revoked)
        some = [number for number in numbers if number > cursor][:_SCANNED]
        after = some[-1] if some and some[-1] != numbers[-1] else 0
        names = [name for name in self.revoked if self._revoked_numbers[name] in some]
        flat = [part for name in names for part in (name, " ".join(self.revoked[name]))]
        return [b"%d" % after, [part.encode() for part in flat]]

    def _has_id(self, key: str) -> bool:
        return self._ids.get(key, 0.0) > self._now()

    def _known(self, keys: Sequence[str], _: Sequence[Any]) -> list[bytes]:
        return [key.encode() for key in keys if self._has_id(key)]

    def _publish(self, keys: list[str], arguments: list[Any]) -> list[Any]:
        history_events, history_ms, _head_ms, id_ms, _ = arguments[:5]
        key, arg, accepted = 0, 5, 0
        said: list[Any] = []
        while arg < len(arguments):
            stream_key, user = keys[key], user_of(keys[key])
            epoch, channel, count = arguments[arg : arg + 3]
            key, arg = key + 2, arg + 3
            stream = self._change(stream_key) or self._begin(stream_key, epoch)
            before, told = stream.last, []
            ids = [stream.epoch.encode(), written(before)]
            for _ in range(count):
                new = True
                if arguments[arg] == "1":
                    new = self._take_id(keys[key], id_ms)
                    key += 1
                if new:
                    told.append(self._append(user, stream, arguments[arg + 1]))
                ids.append(written(stream.last) if new else b"")
                arg += 2
            if told:
                stream.lasts_until = self._now() + history_ms / 1000
                stream.trim(history_events if history_ms else 0, max(0, self._milliseconds() - history_ms))
                self._tell(channel, stream.epoch, before, told)
            accepted += len(told)
            said.append(ids)
        return [accepted, *said]

    def _tell(self, channel: str, epoch: str, before: Id, events: Sequence[bytes]) -> None:
        head = f'{{"epoch":"{epoch}","prev":"{text_of(before)}","events":['
        self.publish(channel.encode(), head.encode() + b",".join(events) + b"]}")

    def _take_id(self, key: str, milliseconds: int) -> bool:
        if not milliseconds:
            return True
        if self._has_id(key):
            return False
        self._ids[key] = self._now() + milliseconds / 1000
        self._note(lambda: self._ids.pop(key, None))
        return True

    def _append(self, user: str, stream: Stream, stored: bytes) -> bytes:
        now = self._milliseconds()
        ms, sequence = stream.last
        place = (now, 0) if now > ms else (ms, sequence + 1)
        stream.entries.append((place, stream.last, stored))
        stream.last = place
        self._written.append((user, stream.epoch, place))
        self._witness.accepted((user, stream.epoch, place), stored)
        return b'["%b",%b]' % (written(place), stored)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

    def _read(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        new_epoch, _, since_text, left, bytes_left, taken_in, _, channel, _ = arguments
        since = read_id(since_text)
        stream = self._change(keys[0]) or self._begin(keys[0], new_epoch)
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
            stream = self._begin(keys[0], new_epoch, stream.last)
            more, found = False, []
            self._tell(channel, new_epoch, stream.last, [])
        flat = [part for place, before, stored in found for part in (written(place), written(before), stored)]
        return [stream.epoch.encode(), written(stream.last), int(more), flat]

    def _restore(self, keys: list[str], arguments: list[Any]) -> int:
        history_events, history_ms, _, id_ms, _, channel, is_last, fresh, epoch = arguments[:9]
        epoch, keeps = epoch.decode(), history_events > 0 and history_ms > 0
        events = [
            (read_id(place.decode()), read_id(before.decode()), own, stored)
            for place, before, own, stored in zip(*[iter(arguments[9:])] * 4, strict=True)
        ]
        known, user, end = self._change(keys[0]), user_of(keys[0]), events[-1][0]
        if known is not None and known.epoch != epoch:
            return 1 if known.last >= end else self._begin_anew(keys[0], channel, fresh, end)
        stream = Stream(epoch) if known is None else known.copy()
        lacking = self._change_lacking(keys[0])
        for place, before, own, stored in events:
            if place > stream.last:
                lacking[epoch, before] = place, own, stored
            elif not stream.was_taken(place, keeps=keeps):
                return self._begin_anew(keys[0], channel, fresh, stream.last)
            elif own:
                self._take_id(own, id_ms)
        first = stream.last
        back = self._follow_up(stream, lacking, id_ms)
        if back:
            stream.lasts_until = self._now() + history_ms / 1000
            stream.trim(history_events if keeps else 0, 0)
            self._begin(keys[0], epoch)
            self._streams[keys[0]] = stream
            self._note(lambda: self._witness.lost(user, epoch, first))
            for place, stored in back:
                self._witness.restored((user, epoch, place), stored)
            told = [b'["%b",%b]' % (written(place), stored) for place, stored in back]
            self._tell(channel, epoch, first, told)
        if stream.last >= end:
            return 1
        return self._begin_anew(keys[0], channel, fresh, end) if is_last else 0

    def _follow_up(
        self, stream: Stream, lacking: dict[tuple[str, Id], tuple[Id, str, bytes]], id_ms: int
    ) -> list[tuple[Id, bytes]]:
        """Append what follows the end of a stream, one after the other."""
        back = []
        while (stream.epoch, stream.last) in lacking:
            place, own, stored = lacking.pop((stream.epoch, stream.last))
            stream.entries.append((place, stream.last, stored))
            stream.last = place
            back.append((place, stored))
            if own:
                self._take_id(own, id_ms)
        return back

    def _change_lacking(self, key: str) -> dict[tuple[str, Id], tuple[Id, str, bytes]]:
        """What was given back to a stream and does not follow its end yet; it is about to be changed."""
        lacking = self._lacking.setdefault(key, {})
        before = dict(lacking)
        self._note(lambda: self._lacking.__setitem__(key, before))
        return lacking

    def _begin_anew(self, key: str, channel: str, epoch: str, last: Id) -> int:
        self._begin(key, epoch, last)
        self._change_lacking(key).clear()
        self._tell(channel, epoch, last, [])
        return 2

    def _revoke(self, _: Sequence[str], arguments: Sequence[Any]) -> int:
        now, most, _, channel, *orders = arguments
        before = dict(self.revoked)
        self._note(lambda: setattr(self, "revoked", before))
        for known, (_, until) in list(self.revoked.items()):
            if float(until) <= float(now):
                del self.revoked[known]
        new = set(orders[::4]) - self.revoked.keys()
        if new and len(self.revoked) + len(new) > most:
            return -1
        told = 0
        for name, at, till, message in zip(*[iter(orders)] * 4, strict=True):
            known_at, known_till = self.revoked.get(name, (at, till))
            self._revoked_numbers.setdefault(name, len(self._revoked_numbers) + 1)
            self.revoked[name] = (max(at, known_at, key=float), max(till, known_till, key=float))
            told = self.publish(channel.encode(), message)
        return told


def _by_text_and_digest(
    scripts: dict[Script, Callable[[SimulatedRedis, list[str], list[Any]], Any]],
) -> dict[str, Callable[[SimulatedRedis, list[str], list[Any]], Any]]:
    by_text = {script.text: do for script, do in scripts.items()}
    return by_text | {script.digest: do for script, do in scripts.items()}


_SCRIPTS = _by_text_and_digest(
    {
        KNOWN: SimulatedRedis._known,
        PUBLISH: SimulatedRedis._publish,
        READ: SimulatedRedis._read,
        RESTORE: SimulatedRedis._restore,
        REVOKE: SimulatedRedis._revoke,
    }
)


_there: trio.lowlevel.RunVar["SimulatedRedis | None"] = trio.lowlevel.RunVar("redis", default=None)


def opens(server: Server, hear: Hear | None = None) -> AbstractAsyncContextManager[SimulatedLink]:
    """Stands in for `localful_ws.engine.redis.link.open_link`."""
    redis = _there.get()
    assert redis is not None
    return redis.open(server, hear)
