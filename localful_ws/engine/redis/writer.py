"""How events are written to Redis: a script for each server, and what it says is kept for a while."""

from collections.abc import Sequence
from itertools import chain, count
from typing import Any, Final

import trio
from attrs import frozen

from localful_ws.clock import Clock
from localful_ws.engine import Receipt
from localful_ws.engine.redis.acknowledged import Acknowledged, Written
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.errors import NOT_READY, RedisRefusedError
from localful_ws.engine.redis.keys import Keys, new_epoch
from localful_ws.engine.redis.link import Link
from localful_ws.engine.redis.lua import KNOWN, PUBLISH
from localful_ws.engine.redis.shard import Shard
from localful_ws.engine.redis.shards import Argument, Shards
from localful_ws.engine.redis.wire import encode_stored
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.settings import Settings

_PROBE: Final = encode_stored(Event(EventName.USER_UPDATE, "nobody"))


@frozen
class _EventsOfUser:
    """What is written for one user at once.

    Attributes:
        user: The user.
        events: The events.
        stored: The events as they are kept.
        ids: The keys of the events' own ids; empty for those without.
    """

    user: str
    events: Sequence[Event]
    stored: Sequence[bytes]
    ids: Sequence[str]


class EventWriter:
    """Writes events.

    Args:
        settings: For how long what is kept.
        clock: The daemon's clock.
        keys: The names of things.
        shards: The servers.
        control: Refuses the tokens of users who are deleted.
        acknowledged: Keeps what was acknowledged.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        keys: Keys,
        *,
        shards: Shards,
        control: Control,
        acknowledged: Acknowledged,
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._shards = shards
        self._control = control
        self._acknowledged = acknowledged
        self._revocation_seconds = settings.revocation_seconds
        self._arguments: tuple[Argument, ...] = (
            settings.history_events,
            round(settings.history_seconds * 1000),
            round(settings.cursor_seconds * 1000),
            round(settings.idempotency_seconds * 1000),
            shards.publish_command,
        )

    async def write(self, events: Sequence[Event]) -> Receipt:
        """Write events; in a Cluster all or none of each user's.

        Raises:
            RedisUnavailableError, RedisRefusedError: If it is not certain that all are written.
            TooManyRevocationsError: If a user who is deleted can't be refused any more; nothing was written.
        """
        users = self._by_user(events)
        if any(event.name is EventName.USER_DELETE for event in events):
            await self._refuse_deleted(users)
        parts = [[user] for user in users] if self._shards.is_cluster else [users] if users else []
        calls = [self._call(part) for part in parts]
        replies = await self._shards.run_scripts(PUBLISH, calls, lambda said: self._keep_all(parts, said))
        accepted = sum(reply[0] for reply in replies)
        return Receipt(accepted, len(events) - accepted)

    async def probe(self, shard: Shard) -> None:
        """Write something that nobody is told of, where a server has the keys; raises like `write`."""
        shards, keys = self._shards, self._keys
        number = self._probe_number(shard)
        if number is None:
            return
        await shards.run_script(
            PUBLISH,
            [keys.of_probe(number, what) for what in ("events", "head")],
            [*self._arguments, new_epoch(), keys.of_probe(number, "live"), 1, "0", _PROBE],
        )
        if shards.of(keys.revoked) is shard:
            await self._control.probe(shards)

    async def check_ready(self, shard: Shard, link: Link) -> None:
        """See that a server can be asked for what it has.

        Raises:
            RedisUnavailableError, RedisRefusedError: If it can't be yet.
        """
        number = self._probe_number(shard)
        if number is not None:
            try:
                await link.call("EVAL", KNOWN.text, 1, self._keys.of_probe(number, "head"))
            except RedisRefusedError as error:
                if error.code in NOT_READY:
                    raise

    def _probe_number(self, shard: Shard) -> int | None:
        """Which probe a server has; None if it has no slots (any more)."""
        shards, keys = self._shards, self._keys
        if not shards.is_cluster:
            return 0
        if shard not in shards.of_slot:
            return None
        return next(number for number in count() if shards.of(keys.of_probe(number, "events")) is shard)

    def _by_user(self, events: Sequence[Event]) -> list[_EventsOfUser]:
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user, []).append(event)
        return [
            _EventsOfUser(
                user,
                some,
                list(map(encode_stored, some)),
                ["" if event.id is None else self._keys.of_user(user, f"id:{event.id}") for event in some],
            )
            for user, some in by_user.items()
        ]

    def _call(self, users: Sequence[_EventsOfUser]) -> tuple[list[str], list[Argument]]:
        keys: list[str] = []
        arguments = list(self._arguments)
        for batch in users:
            user = batch.user
            keys += [
                self._keys.of_user(user, "events"),
                self._keys.of_user(user, "head"),
                *filter(None, batch.ids),
            ]
            arguments += [new_epoch(), self._keys.of_user(user, "live"), len(batch.events)]
            for stored, key in zip(batch.stored, batch.ids, strict=True):
                arguments += ["1" if key else "0", stored]
        return keys, arguments

    def _keep_all(self, parts: Sequence[list[_EventsOfUser]], replies: Sequence[Any]) -> None:
        """Keep what was written, be it relied on or not: devices are told of it in any case."""
        now = trio.current_time()
        for part, (_, *written) in zip(parts, replies, strict=True):
            for batch, (epoch, before, *places) in zip(part, written, strict=True):
                self._keep(batch, epoch, before, places, now)

    def _keep(
        self, batch: _EventsOfUser, epoch: bytes, before: bytes, places: Sequence[bytes], now: float
    ) -> None:
        written = []
        for stored, key, place in zip(batch.stored, batch.ids, places, strict=True):
            if place:  # those that are not new have none
                written.append(Written(place, before, stored, key))
                before = place
        if written:
            self._acknowledged.remember(batch.user, epoch, written, now)

    async def _refuse_deleted(self, users: Sequence[_EventsOfUser]) -> None:
        """Refuse the tokens of users who are deleted: before that is accepted, since there may be no room."""
        ids = {
            batch.user: [
                key
                for event, key in zip(batch.events, batch.ids, strict=True)
                if event.name is EventName.USER_DELETE
            ]
            for batch in users
        }
        asked = ids.values() if self._shards.is_cluster else [chain.from_iterable(ids.values())]
        calls = [(some, ()) for keys in asked if (some := list(filter(None, keys)))]
        known = set().union(*await self._shards.run_scripts(KNOWN, calls))
        now = self._clock.now()
        until = now + self._revocation_seconds
        deletions = [
            Disconnect(user, at=now, until=until)
            for user, keys in ids.items()
            # What was accepted before is not done again: the user may have begun anew.
            if any(key.encode() not in known for key in keys)
        ]
        if deletions:
            await self._control.tell(self._shards, deletions, close=False)
