"""The intake: events and disconnects that publishers append to a stream in Redis.

See spec/protocol.md, "Publishing without HTTP". One node at a time takes entries, so that their order is
kept: the one that holds a lease, which it renews, and which Redis looks at whenever entries are taken. All
nodes share one consumer of the stream's group, and whoever gets the lease begins with what was taken by the
node before and not removed. An entry is removed once it is accepted; what happens between the two may make it
come again: its events with the same ids, a disconnect with the same moment.
"""

import math
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

import structlog
import trio
from attrs import define, field, frozen

from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.engine.redis.errors import (
    REDIS_ERRORS,
    RedisRefusedError,
    RedisUnavailableError,
    raise_single,
)
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.link import Link, open_link
from localful_ws.engine.redis.lua import INTAKE_LEASE, INTAKE_REJECT, INTAKE_REMOVE, INTAKE_TAKE, Script
from localful_ws.engine.redis.shards import PASSING, Argument, Shards
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect, PublishError, PublishLimits, read_intake_entry
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.steps import Steps, finish, take_turns

_log = structlog.get_logger(__name__)

Publish = Callable[[Sequence[Event]], Awaitable[Receipt]]
Apply = Callable[[Disconnect], Awaitable[None]]

_GROUP: Final = "localful"
_CONSUMER: Final = "reader"
_NEW: Final = ">"
_BEGINNING: Final = "0-0"
# Taken at once: so many entries, and so many bytes before the last one.
_ENTRIES: Final = 1000
_BYTES: Final = 1024 * 1024
# Decoded without letting others run.
_BYTES_AT_A_STRETCH: Final = 32 * 1024
# What an entry has around the data of an event or the body.
_ENVELOPE: Final = 4096
_REJECTED_KEPT: Final = 10_000
# Most texts that Lua can hand to a command.
_REJECTED_TEXTS: Final = 4000
_NO_ROOM: Final = "As many revocations are in force as max-revocations allows; nothing was done."
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_LONGEST_WAIT: Final = 1.0
_PAUSE_IN_TROUBLE: Final = 5.0
_GOODBYE: Final = 0.2
# The slot, the server to write to, or the group, is made anew or elsewhere.
_ELSEWHERE: Final = frozenset({"MOVED", "READONLY", "NOGROUP", "UNBLOCKED"})


@define
class IntakeCounts:
    """What became of the entries.

    Attributes:
        accepted: Events and disconnects that were taken and accepted, without duplicates.
        rejected: Entries that could not be.
    """

    accepted: int = 0
    rejected: int = 0


@frozen
class _Entry:
    id: str
    texts: list[bytes]
    size: int


@frozen
class _Portion:
    """Entries that are accepted together, and what they hold."""

    entries: list[_Entry]
    content: list[Event] | Disconnect


@frozen
class _Taken:
    """What `_Reader.take` got.

    Attributes:
        entries: In order.
        next: What to take next.
        last: If nothing was new, the id after which something will be.
    """

    entries: list[_Entry]
    next: str
    last: str


async def run_intake(
    shards: Shards,
    keys: Keys,
    limits: PublishLimits,
    publish: Publish,
    disconnect: Apply,
    *,
    now: Callable[[], float],
    revocation_seconds: float,
    counts: IntakeCounts,
    lease_seconds: float = 3.0,
) -> NoReturn:
    """Publish what is appended to the intake, for ever, while no other node does.

    Args:
        shards: The servers.
        keys: The names of things.
        limits: What an entry may hold, as a publish over HTTP.
        publish: Accepts events. It may refuse for the moment with `EngineUnavailableError`, and is then asked
            again, until it accepts them.
        disconnect: Does a disconnect; it may refuse like ``publish``.
        now: The present, in Unix seconds.
        revocation_seconds: How long a disconnect lasts that does not say until when.
        counts: Where to count.
        lease_seconds: How long after the reading node has died another one takes over.
    """
    await _Intake(
        shards, keys, limits, publish, disconnect, now, revocation_seconds, counts, lease_seconds
    ).run()


@define(eq=False)
class _Intake:
    shards: Shards
    keys: Keys
    limits: PublishLimits
    publish: Publish
    disconnect: Apply
    now: Callable[[], float]
    revocation_seconds: float
    counts: IntakeCounts
    lease_seconds: float
    _holder: str = field(factory=lambda: secrets.token_hex(8))
    _held_until: float = -math.inf
    _may_be_held: bool = False
    _trouble: str = ""
    _most_bytes: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._most_bytes = self.limits.max_body_bytes + _ENVELOPE

    async def run(self) -> NoReturn:
        try:
            while True:
                try:
                    if await self._get_lease():
                        await self._read_with_lease()
                    await trio.sleep(self.lease_seconds / 3 * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                except RedisUnavailableError:
                    await trio.sleep(_FIRST_PAUSE)
                except RedisRefusedError as error:
                    await trio.sleep(self._pause_after(error))
        finally:
            await self._give_up_lease()

    def _pause_after(self, error: RedisRefusedError) -> float:
        """How long to wait after Redis did not do something: for what passes, not long."""
        if error.code == "MOVED":
            self.shards.take_moved(error)
        if error.code in _ELSEWHERE or error.code in PASSING:
            return _FIRST_PAUSE
        if str(error) != self._trouble:
            # No permission, no memory, a key of another type.
            self._trouble = str(error)
            _log.error("the intake can't be read; trying on", reason=self._trouble)
        return _PAUSE_IN_TROUBLE

    async def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return await self.shards.run_script(script, keys, arguments)

    # --- the lease ---

    async def _get_lease(self) -> bool:
        """Get it or renew it."""
        # Counted from before the request: here it lapses earlier than in Redis.
        asked_at = trio.current_time()
        # Who asks, and is stopped before the answer, may have it all the same.
        self._may_be_held = True
        has_it = await self._run(
            INTAKE_LEASE, [self.keys.lease], [self._holder, int(self.lease_seconds * 1000)]
        )
        self._may_be_held = bool(has_it)
        self._held_until = asked_at + self.lease_seconds if has_it else -math.inf
        return self._may_be_held

    async def _keep_lease(self) -> None:
        while True:
            await trio.sleep(self.lease_seconds / 3)
            if not await self._get_lease():
                return

    def _has_lease(self) -> bool:
        return trio.current_time() < self._held_until

    async def _give_up_lease(self) -> None:
        if self._may_be_held:
            with trio.move_on_after(_GOODBYE, shield=True):
                try:
                    await self._run(INTAKE_LEASE, [self.keys.lease], [self._holder, 0])
                except REDIS_ERRORS:
                    # It lapses by itself.
                    return

    # --- taking ---

    async def _read_with_lease(self) -> None:
        # To wait for entries would keep everything else waiting on the same connection.
        server = (await self.shards.link_to(self.keys.intake)).server
        try:
            async with open_link(server) as waiting, trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_lease)
                await self._read(waiting)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise_single(group)
            raise

    async def _read(self, waiting: Link) -> None:
        """Take and publish until the lease is lost."""
        await self._make_group()
        start = _BEGINNING
        while True:
            taken = await self._take(start)
            if taken is None or not await self._handle(taken.entries):
                return
            start = _NEW if taken.next == _BEGINNING else taken.next
            if taken.last:
                await self._wait(waiting, taken.last)

    async def _make_group(self) -> None:
        try:
            intake = self.keys.intake
            await self.shards.call(intake, "XGROUP", "CREATE", intake, _GROUP, "0", "MKSTREAM")
        except RedisRefusedError as error:
            if error.code != "BUSYGROUP":
                raise

    async def _take(self, start: str) -> _Taken | None:
        """Take what is next; None if the lease is lost."""
        reply: Any = await self._run(
            INTAKE_TAKE,
            [self.keys.intake, self.keys.lease],
            [self._holder, _GROUP, _CONSUMER, start, _ENTRIES, _BYTES, self._most_bytes],
        )
        if reply is None:
            return None
        self._trouble = ""
        entries = [_Entry(entry_id.decode(), texts, size) for entry_id, texts, size in reply[0]]
        return _Taken(entries, reply[1].decode(), reply[2].decode())

    async def _wait(self, waiting: Link, last: str) -> None:
        """Wait until there may be something after an entry. Takes nothing."""
        milliseconds = int(min(_LONGEST_WAIT, waiting.server.timeout / 2) * 1000)
        await waiting.call("XREAD", "COUNT", 1, "BLOCK", milliseconds, "STREAMS", self.keys.intake, last)

    # --- handling ---

    async def _handle(self, entries: Sequence[_Entry]) -> bool:
        """Publish or reject entries, and remove them; says whether all that was done."""
        good: list[_Portion] = []
        bad: list[tuple[_Entry, str]] = []
        stretch = 0
        for entry in entries:
            stretch += entry.size + _ENVELOPE // 8
            if stretch > _BYTES_AT_A_STRETCH:
                await trio.lowlevel.checkpoint()
                stretch = 0
            try:
                steps = self._content_of(entry)
                content = finish(steps) if entry.size <= _BYTES_AT_A_STRETCH else await take_turns(steps)
                good.append(_Portion([entry], content))
            except PublishError as error:
                bad.append((entry, error.message))
        if bad:
            await self._reject(bad)
        for portion in _join(good, self.limits.max_events):
            try:
                if not await self._accept(portion.content):
                    return False
            except TooManyRevocationsError:
                # To wait for room would keep everybody's events waiting, for hours perhaps.
                await self._reject([(entry, _NO_ROOM) for entry in portion.entries])
            else:
                await self._remove([entry.id for entry in portion.entries])
        return True

    def _content_of(self, entry: _Entry) -> Steps[list[Event] | Disconnect]:
        if entry.size > self._most_bytes:
            raise PublishError(
                413,
                "entry-too-big",
                f"An entry has at most {self._most_bytes} bytes; this one had {entry.size}, and is cut.",
            )
        fields = dict(zip(entry.texts[::2], entry.texts[1::2], strict=True))
        return read_intake_entry(
            fields, entry.id, self.limits, now=self.now(), seconds=self.revocation_seconds
        )

    async def _accept(self, content: Sequence[Event] | Disconnect) -> bool:
        """Try until it is accepted; says whether it was before the lease was lost."""
        pause = _FIRST_PAUSE
        while self._has_lease():
            try:
                if isinstance(content, Disconnect):
                    await self.disconnect(content)
                    self.counts.accepted += 1
                elif content:
                    self.counts.accepted += (await self.publish(content)).accepted
            except EngineUnavailableError:
                await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return True
        return False

    async def _reject(self, bad: Sequence[tuple[_Entry, str]]) -> None:
        arguments: list[Argument] = [_REJECTED_KEPT]
        for entry, reason in bad:
            texts = [*entry.texts[:_REJECTED_TEXTS], b"reason", reason.encode(), b"entry", entry.id.encode()]
            arguments += [len(texts), *texts]
        await self._run(INTAKE_REJECT, [self.keys.rejected], arguments)
        await self._remove([entry.id for entry, _ in bad])
        self.counts.rejected += len(bad)
        _log.warning(
            "entries of the intake are rejected", count=len(bad), first=bad[0][0].id, reason=bad[0][1]
        )

    async def _remove(self, ids: Sequence[str]) -> None:
        if ids:
            await self._run(INTAKE_REMOVE, [self.keys.intake], [_GROUP, *ids])


def _join(portions: Sequence[_Portion], most: int) -> list[_Portion]:
    """Put events of entries in a row together, up to so many. What revokes tokens can be refused: alone."""
    joined: list[_Portion] = []
    # The events of the last one, if others may join them.
    together: list[Event] | None = None
    for portion in portions:
        content = portion.content
        if isinstance(content, Disconnect) or any(event.name is EventName.USER_DELETE for event in content):
            joined.append(portion)
            together = None
        elif together is not None and len(together) + len(content) <= most:
            joined[-1].entries.extend(portion.entries)
            together += content
        else:
            joined.append(portion)
            together = content
    return joined
