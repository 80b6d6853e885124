"""The engine of a single node: a bounded memory channel, and a history in memory."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog
import trio
from attrs import frozen

from localful_ws.clock import Clock
from localful_ws.engine import (
    EngineUnavailableError,
    Entry,
    Position,
    Presence,
    Receipt,
    Subscriber,
    replay_limits,
)
from localful_ws.engine.history import History, HistoryLimits
from localful_ws.engine.idempotency import RecentIds
from localful_ws.metrics import Figure
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.settings import Settings
from localful_ws.steps import Steps, take_turns
from localful_ws.wakeup import Future

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# Bytes of data; with 32 MiB in one go nobody else would have a turn for 50 ms.
_APPENDED_AT_ONCE: Final = 4 * 1024 * 1024


@frozen
class _Batch:
    events: Sequence[Event]
    accepted_at: float


class MemoryEngine:
    """Carries events from publishers to this process's node, in the order in which they were accepted.

    Args:
        settings: How many batches may wait and for how long, and what is remembered.
        clock: The daemon's clock.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._timeout = settings.publish_timeout
        self._revocation_seconds = settings.revocation_seconds
        self._replay_limits = replay_limits(settings)
        self._history = History(
            HistoryLimits(settings.history_events, settings.history_seconds, settings.history_bytes)
        )
        self._ids = RecentIds(settings.idempotency_seconds, settings.idempotency_events)
        # A place is waited for before ids are looked at: two publishes of the same id must not both wait.
        self._places = trio.Semaphore(settings.publish_queue)
        self._send, self._receive = trio.open_memory_channel[_Batch | Callable[[Subscriber], None]](
            settings.publish_queue
        )
        self._subscriber: Subscriber | None = None
        self._closed = False
        # Whether a batch is on its way to the devices, whether not all of it is in the history yet, and what
        # is done when it has been routed.
        self._routing = self._appending = False
        self._turns: list[Callable[[], None]] = []

    def unavailable(self) -> str | None:
        """None: this engine is always there."""
        return None

    def figures(self) -> Sequence[Figure]:
        """See `Engine.figures`."""
        ids = self._ids
        return (
            Figure("history_events", "Events kept for devices that are away.", len(self._history)),
            Figure("history_bytes", "About how much memory they take.", self._history.bytes),
            Figure("publish_ids", "Ids of published events that are remembered.", len(ids)),
            Figure(
                "publish_ids_forgotten",
                "Such ids forgotten before their time.",
                ids.forgotten_early,
                total=True,
            ),
        )

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """See `Engine.publish`."""
        await self._take_place()
        now = self._clock.now()
        try:
            self._refuse_deleted(events, now)
        except BaseException:
            self._places.release()
            raise
        forgotten = self._ids.forgotten_early
        new = [event for event in events if self._ids.is_new(event, now)]
        if self._ids.forgotten_early and not forgotten:
            _log.warning("more published ids than idempotency-events: the oldest are forgotten early")
        self._send.send_nowait(_Batch(new, trio.current_time()))
        return Receipt(len(new), len(events) - len(new))

    async def disconnect(self, disconnect: Disconnect) -> int:
        """See `Engine.disconnect`."""

        def apply(subscriber: Subscriber) -> int:
            subscriber.refuse([disconnect])
            return subscriber.close(disconnect)

        return await self._ask(apply)

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """See `Engine.who_is_there`."""
        return await self._ask(lambda subscriber: subscriber.devices_of(user, vaults))

    async def _ask(self, question: Callable[[Subscriber], T]) -> T:
        """Have this called in its place among the events; what it returns or raises."""
        said = Future[T]()

        def answer(subscriber: Subscriber) -> None:
            # Done even if nobody waits for it any more.
            try:
                said.set(question(subscriber))
            except TooManyRevocationsError as error:
                said.fail(error)

        await self._take_place()
        self._send.send_nowait(answer)
        return await self._wait_for(said)

    async def _wait_for(self, said: Future[T]) -> T:
        with trio.move_on_after(self._timeout):
            return await said.wait()
        raise EngineUnavailableError("The node is too busy to answer.", retry_after=1)

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        """See `Engine.join`. Begins at once, unless a large batch is just being put into the history."""

        def join() -> None:
            missed: Sequence[Entry] | None = None
            if since is not None:
                missed = self._history.since(user, since, self._replay_limits, self._clock.now())
            begin(Position(self._history.cursor(user), missed))

        await self._do_unless(self._appending, join)

    def leave(self, user: str) -> None:
        """See `Engine.leave`. There is nothing to be done."""

    async def pause(self, user: str, act: Callable[[str], object]) -> None:
        """See `Engine.pause`."""
        await self._do_unless(self._routing, lambda: act(self._history.cursor(user)))

    async def _do_unless(self, must_wait: bool, act: Callable[[], object]) -> None:  # noqa: FBT001
        """Do something now, or when the batch under way has been routed."""
        if not must_wait:
            act()
            return
        done = Future[object]()
        self._turns.append(lambda: done.set_by(act))
        await self._wait_for(done)

    async def run(
        self, subscriber: Subscriber, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """See `Engine.run`."""
        self._subscriber = subscriber
        task_status.started()
        async with self._receive:
            async for item in self._receive:
                self._places.release()
                if isinstance(item, _Batch):
                    await self._route(item, subscriber)
                else:
                    item(subscriber)

    async def aclose(self) -> None:
        """See `Engine.aclose`."""
        self._closed = True
        await self._send.aclose()

    async def _route(self, batch: _Batch, subscriber: Subscriber) -> None:
        self._routing = self._appending = True
        entries = await take_turns(self._append(batch.events, subscriber))
        # Whoever joins from here on finds them in the history, and is not among those they are routed to.
        self._appending = False
        await subscriber.route(entries, batch.accepted_at)
        self._routing = False
        turns, self._turns = self._turns, []
        for take_turn in turns:
            take_turn()

    def _append(self, events: Sequence[Event], subscriber: Subscriber) -> Steps[list[Entry]]:
        now = self._clock.now()
        entries, size = list[Entry](), 0
        for event in events:
            size += len(event.data)
            if size > _APPENDED_AT_ONCE:
                yield
                size = 0
            try:
                entries.append(self._history.append(event, now))
            except Exception:
                # A fault in one event is its user's only. Those of the devices that come back can't resume.
                _log.exception("an event was lost, and the devices of its user are closed")
                subscriber.lose(event.user)
        return entries

    def _refuse_deleted(self, events: Sequence[Event], now: float) -> None:
        """Refuse the tokens of users who are deleted: before that is accepted, since there may be no room."""
        until = now + self._revocation_seconds
        deletions = [
            Disconnect(event.user, at=now, until=until)
            for event in events
            if event.name is EventName.USER_DELETE and not self._ids.knows(event, now)
        ]
        if not deletions:
            return
        if self._subscriber is None:
            raise EngineUnavailableError("The node has yet to start.", retry_after=1)
        self._subscriber.refuse(deletions)

    async def _take_place(self) -> None:
        try:
            # Without a checkpoint: who comes first is first.
            self._places.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(self._timeout) as waiting:
                await self._places.acquire()
            if waiting.cancelled_caught:
                raise EngineUnavailableError(
                    "Too many events are waiting to be routed.", retry_after=1
                ) from None
        if self._closed:
            raise EngineUnavailableError("The server is shutting down.", retry_after=5)
