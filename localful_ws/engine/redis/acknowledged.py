"""What was acknowledged lately, and is given to a server that lacks it.

Redis replicates without waiting, so a replica that becomes the one to write to may lack what its predecessor
took a moment before; so may a server that comes back with an older state. So each node keeps for a while what
it has answered with 202, and gives it back under the same ids.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

import structlog
from attrs import frozen

from localful_ws.engine.redis.errors import NOT_READY, RedisRefusedError
from localful_ws.engine.redis.keys import Keys, new_epoch
from localful_ws.engine.redis.link import Link
from localful_ws.engine.redis.lua import RESTORE
from localful_ws.settings import Settings
from localful_ws.wakeup import Future

_log = structlog.get_logger(__name__)

_OVERHEAD: Final = 400
_USERS_AT_ONCE: Final = 200
# Given in one command.
_EVENTS_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 1024 * 1024


@frozen
class Written:
    """An event as it was written.

    Attributes:
        id: Its place in the stream.
        before: The place of what came before it.
        stored: As it is kept.
        key: The key of its own id, if it has one.
    """

    id: bytes
    before: bytes
    stored: bytes
    key: str = ""


@frozen
class _Batch:
    at: float
    user: str
    epoch: bytes
    events: Sequence[Written]
    size: int


class Acknowledged:
    """The events that were acknowledged in the last seconds.

    Args:
        settings: For how long they are kept, and how much at most.
        keys: The names of things.

    Attributes:
        refusal: Why something could not be given the last time, if that was because Redis refused it.
    """

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self.refusal: RedisRefusedError | None = None
        # What history no longer has nobody asks for.
        self._seconds = min(settings.redis_handover_seconds, settings.history_seconds)
        self._max_bytes = settings.redis_handover_bytes
        self._keys = keys
        self._history = (
            settings.history_events,
            round(settings.history_seconds * 1000),
            round(settings.cursor_seconds * 1000),
            round(settings.idempotency_seconds * 1000),
        )
        self._batches: deque[_Batch] = deque()
        self._bytes = 0

    def remember(self, user: str, epoch: bytes, events: Sequence[Written], now: float) -> None:
        """Keep what was acknowledged for a user."""
        size = sum(len(event.stored) + _OVERHEAD for event in events)
        self._batches.append(_Batch(now, user, epoch, events, size))
        self._bytes += size
        while self._batches and (self._bytes > self._max_bytes or self._batches[0].at + self._seconds <= now):
            self._bytes -= self._batches.popleft().size

    def of(self, wanted: Callable[[str], bool], now: float) -> "list[Kept]":
        """What is kept of those users, the events of each in the order of their places."""
        kept: dict[tuple[str, bytes], list[Written]] = {}
        for batch in self._batches:
            if batch.at + self._seconds > now and wanted(batch.user):
                kept.setdefault((batch.user, batch.epoch), []).extend(batch.events)
        return [
            Kept(user, epoch, sorted(events, key=lambda event: _place(event.id)))
            for (user, epoch), events in kept.items()
        ]

    async def give(self, link: Link, kept: "Iterable[Kept]", publish: str, *, last: bool) -> "list[Kept]":
        """Give a server what it lacks.

        Args:
            link: The connection to it.
            kept: What it may lack.
            publish: The command by which scripts publish.
            last: Whether streams in whose middle something is lacking are begun anew.

        Returns:
            What can't be given yet: what came before it is lacking too, and another node may have it; or it
            was refused, as `refusal` says.

        Raises:
            RedisUnavailableError: If the connection is lost.
            RedisRefusedError: If the server is not ready yet.
        """
        waiting, refused, self.refusal = list[Kept](), Counter[str](), None
        users = iter(kept)
        # Many with one round trip: other nodes do not wait for long.
        while some := list(islice(users, _USERS_AT_ONCE)):
            sent = [
                (user, [self._send(link, part, publish, last=last) for part in _parts(user)]) for user in some
            ]
            for user, replies in sent:
                try:
                    outcomes = [await reply.wait() for reply in replies]
                except RedisRefusedError as error:
                    if error.code in NOT_READY:
                        raise
                    if error.code == "MOVED":
                        continue  # it is that of another server
                    refused[str(error)] += 1
                    self.refusal = error
                    waiting.append(user)
                    continue
                if 0 in outcomes:
                    waiting.append(user)
        if last:
            for reason, count in refused.items():
                _log.warning("what was acknowledged can't be given to Redis", users=count, reason=reason)
        return waiting

    def _send(self, link: Link, kept: "Kept", publish: str, *, last: bool) -> Future[int]:
        keys = [self._keys.of_user(kept.user, what) for what in ("events", "head", "lacking")]
        arguments: list[str | bytes | int] = [
            *self._history,
            publish,
            self._keys.of_user(kept.user, "live"),
            int(last),
            new_epoch(),
            kept.epoch,
        ]
        for event in kept.events:
            arguments += [event.id, event.before, event.key, event.stored]
        return link.send("EVAL", RESTORE.text, len(keys), *keys, *arguments)


@frozen
class Kept:
    """What is kept of one user and epoch."""

    user: str
    epoch: bytes
    events: Sequence[Written]


def _parts(kept: Kept) -> Iterable[Kept]:
    part, size = list[Written](), 0
    for event in kept.events:
        if part and (len(part) >= _EVENTS_AT_ONCE or size + len(event.stored) > _BYTES_AT_ONCE):
            yield Kept(kept.user, kept.epoch, part)
            part, size = [], 0
        part.append(event)
        size += len(event.stored)
    yield Kept(kept.user, kept.epoch, part)


def _place(id_: bytes) -> tuple[int, int]:
    ms, _, sequence = id_.partition(b"-")
    return int(ms), int(sequence)
