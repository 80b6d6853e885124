"""Bugs planted into the daemon, one for each thing that must hold: the simulator has to find each of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from typing import Any
from unittest.mock import patch

import trio
from attrs import evolve

from localful_ws.engine.history import History
from localful_ws.engine.memory import MemoryEngine
from localful_ws.engine.redis import engine
from localful_ws.engine.redis.acknowledged import Acknowledged
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.feeds import Feed
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.protocol import Connection, Event, State, Verdict
from localful_ws.revocations import Revocations
from localful_ws.routing import Router
from localful_ws.server import parking
from localful_ws.server.delivery import Delivery
from localful_ws.server.device import Device
from localful_ws.server.node import Node
from localful_ws.server.opening import Opening
from localful_ws.server.parking import Parking
from localful_ws.server.send_buffer import SendBudget, piece_of
from localful_ws.tcp import close_socket

from .redis_stream import Stream

Bug = Callable[[], AbstractContextManager[Any]]
_wants = Connection.wants


@contextmanager
def _other_verdict(decide: Callable[[Connection, Event], Verdict]) -> Iterator[None]:
    with patch.object(Connection, "wants", decide):
        yield


def echo() -> AbstractContextManager[Any]:
    """Devices are told what their own token group did."""
    return _other_verdict(
        lambda self, event: Verdict.DELIVER if _wants(self, event) is Verdict.ECHO else _wants(self, event)
    )


def other_user() -> AbstractContextManager[Any]:
    """Devices are told what happened to another user."""
    devices_of = Router.devices_of

    def all_of_them(self: Router[Any], user: str) -> Any:
        return tuple(self) or devices_of(self, user)

    def whoever(self: Connection, event: Event) -> Verdict:
        verdict = _wants(self, event)
        return Verdict.DELIVER if verdict is Verdict.OTHER_USER else verdict

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Router, "devices_of", all_of_them), _other_verdict(whoever):
            yield

    return both()


def unsubscribed() -> AbstractContextManager[Any]:
    """What was subscribed to stays subscribed to."""
    subscribe = Connection._subscribe_to

    def add(self: Connection, vaults: tuple[str, ...]) -> None:
        subscribe(self, tuple(dict.fromkeys((*self._vaults, *vaults))))

    return patch.object(Connection, "_subscribe_to", add)


def vault_delete_forgotten() -> AbstractContextManager[Any]:
    """A deleted vault stays in subscriptions."""
    passed = Connection.event_passed

    def forget(self: Connection, event: Event) -> Any:
        return () if event.vault is not None else passed(self, event)

    return patch.object(Connection, "event_passed", forget)


def before_authentication() -> AbstractContextManager[Any]:
    """Devices are told of events, any of them, as soon as they are connected."""
    deliver = Delivery.deliver
    nodes: list[Node] = []
    init = Node.__init__

    def noted(self: Node, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        nodes.append(self)

    async def leak(self: Delivery, entries: Any) -> None:
        for node in nodes:
            if node.subscriber.delivery is self:
                for device in node.devices():
                    if device.state is State.AWAITING_AUTH:
                        for entry in entries:
                            device.send(piece_of(entry.frame))
        await deliver(self, entries)

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(Node, "__init__", noted), patch.object(Delivery, "deliver", leak):
            yield

    return both()


def swapped() -> AbstractContextManager[Any]:
    """The last two events of a batch change places on their way."""
    deliver = Delivery.deliver

    async def swap(self: Delivery, entries: Any) -> None:
        await deliver(self, [*entries[:-2], *reversed(entries[-2:])])

    return patch.object(Delivery, "deliver", swap)


def replay_lost() -> AbstractContextManager[Any]:
    """Who resumes is not told the last of what it missed."""
    replay = Device._replay
    return patch.object(Device, "_replay", lambda self, missed: replay(self, missed[:-1]))


def replay_twice() -> AbstractContextManager[Any]:
    """Who resumes is told the first of what it missed twice."""
    replay = Device._replay
    return patch.object(Device, "_replay", lambda self, missed: replay(self, [*missed[:1], *missed]))


def resumed_too_far() -> AbstractContextManager[Any]:
    """Who has been away for too long is told that it resumes."""
    since = History.since

    def believe(self: History, user: str, cursor: str, limits: Any, now: float) -> Any:
        missed = since(self, user, cursor, limits, now)
        return [] if missed is None and cursor.partition(".")[0] == self._tag(user) else missed

    return patch.object(History, "since", believe)


def foreign_cursor() -> AbstractContextManager[Any]:
    """A cursor of another user is as good as one's own."""
    since = History.since

    def believe(self: History, user: str, cursor: str, limits: Any, now: float) -> Any:
        return since(self, user, f"{self._tag(user)}.{cursor.partition('.')[2]}", limits, now)

    return patch.object(History, "since", believe)


def join_leaks() -> AbstractContextManager[Any]:
    """Who joins is told again what is in its history and just being routed."""
    route = MemoryEngine._route

    async def late(self: MemoryEngine, batch: Any, subscriber: Any) -> None:
        await trio.lowlevel.checkpoint()
        await route(self, batch, _Late(subscriber))

    return patch.object(MemoryEngine, "_route", late)


class _Late:
    """Routes a moment after an event has its place."""

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber

    async def route(self, entries: Any, accepted_at: float) -> None:
        await trio.sleep(0.05)
        await self._subscriber.route(entries, accepted_at)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscriber, name)


def timer_restarted() -> AbstractContextManager[Any]:
    """Whatever comes from a device gives it 3 s more to authenticate."""

    async def patient(self: Opening, device: Device, session: Any, received: bytes) -> None:
        if session is not None:
            await device.begin(session)
        if received:
            device.received(received)
        while True:
            self._scope.deadline = inf
            await device.verify()
            if device.state is not State.AWAITING_AUTH:
                return
            self._scope.deadline = trio.current_time() + 3.0
            await self._receive(device)

    return patch.object(Opening, "_authenticate", patient)


def timer_late() -> AbstractContextManager[Any]:
    """A device has 3.1 s to authenticate."""
    init = Connection.__init__

    def later(self: Connection, limits: Any, now: float) -> None:
        init(self, evolve(limits, auth_timeout=limits.auth_timeout + 0.1), now)

    return patch.object(Connection, "__init__", later)


def device_unbounded() -> AbstractContextManager[Any]:
    """Any amount may wait for a device."""
    return patch.object(SendBudget, "is_over", lambda self, buffer: False)


def history_unbounded() -> AbstractContextManager[Any]:
    """The memory of a user's events grows and grows."""

    append = History.append

    def endless(self: History, event: Event, now: float) -> Any:
        limits, self._limits = self._limits, evolve(self._limits, events=1 << 30, bytes=1 << 40)
        try:
            return append(self, event, now)
        finally:
            self._limits = limits

    return patch.object(History, "append", endless)


def slow_kept() -> AbstractContextManager[Any]:
    """Who takes nothing is waited for, however long."""
    return patch.object(SendBudget, "time_passed", lambda self, now: None)


def budget_kept() -> AbstractContextManager[Any]:
    """What was sent counts as if it waited still."""
    return patch.object(SendBudget, "_release", lambda self, piece: None)


def room_unnoticed() -> AbstractContextManager[Any]:
    """Nobody looks whether there is room again for what waits."""
    return patch.object(Parking, "_interest", lambda self, device: 1 if self._is_read(device) else 0)


def wakeup_lost() -> AbstractContextManager[Any]:
    """Whose token was verified is not read again."""

    async def wait(self: Parking, device: Device) -> None:
        await device.verify()
        self._verifying.remove(device)

    return patch.object(Parking, "_wait", wait)


def verified_twice() -> AbstractContextManager[Any]:
    """It is forgotten for whom a task waits: who is pushed meanwhile gets another one."""

    @contextmanager
    def forgetting() -> Iterator[None]:
        init = Parking.__init__

        def forget(self: Parking, *args: Any) -> None:
            init(self, *args)
            self._verifying = _Nothing()

        with patch.object(Parking, "__init__", forget):
            yield

    return forgetting()


class _Nothing(set[Any]):
    """Takes things, and has none."""

    def add(self, thing: Any) -> None:
        pass

    def remove(self, thing: Any) -> None:
        pass


def readiness_inherited() -> AbstractContextManager[Any]:
    """What was ready of a closed socket is taken to be ready of the next one with its number."""
    push_one = Parking._push_one

    def push_whoever(self: Parking, fd: int, ready: int, device: Device) -> None:
        parked = self._parked.get(fd)
        push_one(self, fd, ready, device if parked is None else parked[0])

    return patch.object(Parking, "_push_one", push_whoever)


def looked_at_still() -> AbstractContextManager[Any]:
    """A closed socket is not taken out of the epoll."""

    def close(self: Parking, device: Device, *, at_once: bool) -> None:
        sock = parking._socket(device)
        self._parked.pop(sock.fileno(), None)
        self._left.set()
        close_socket(sock, at_once=at_once)

    return patch.object(Parking, "close", close)


def timer_left() -> AbstractContextManager[Any]:
    """Who is gone is due still."""
    leave = Device._leave

    def leave_due(self: Device, reason: str, *, at_once: bool) -> None:
        due = self.due
        leave(self, reason, at_once=at_once)
        self.due = due

    return patch.object(Device, "_leave", leave_due)


def task_leaked() -> AbstractContextManager[Any]:
    """A task is left behind by every connection that is closed by the server."""
    close = Device.close

    def leak(self: Device, *args: Any, **kwargs: Any) -> None:
        self._node.start_soon(trio.sleep_forever)
        close(self, *args, **kwargs)

    return patch.object(Device, "close", leak)


def device_left() -> AbstractContextManager[Any]:
    """Who leaves goes on being asked about events."""
    return patch.object(Node, "leave", lambda self, device: None)


def revoked_stays() -> AbstractContextManager[Any]:
    """A revoked session may begin again."""
    return patch.object(Revocations, "is_revoked", lambda self, session, now: False)


def published_twice() -> AbstractContextManager[Any]:
    """Ids of published events are not looked at."""
    from localful_ws.engine.idempotency import RecentIds

    return patch.object(RecentIds, "is_new", lambda self, event, now: True)


def gap_unnoticed() -> AbstractContextManager[Any]:
    """A node takes a message of Redis for the next one, whatever came before it."""

    def trust(self: Feed, live: Any) -> Any:
        if not live.entries or live.epoch != self.epoch or live.entries[-1][0] <= self.last:
            return ()
        return self._take_in(live.entries)

    return patch.object(Feed, "hear", trust)


def call_overtakes() -> AbstractContextManager[Any]:
    """What must be done between events is done at once, however many wait."""

    def at_once(self: RouteQueue, call: Any) -> bool:
        subscriber = getattr(self, "subscriber", None)
        if subscriber is None:
            return self._put(call)
        call(subscriber)
        return True

    run = RouteQueue.run

    async def noted(self: RouteQueue, subscriber: Any) -> None:
        self.subscriber = subscriber  # type: ignore[attr-defined]
        await run(self, subscriber)

    @contextmanager
    def both() -> Iterator[None]:
        with patch.object(RouteQueue, "put_call", at_once), patch.object(RouteQueue, "run", noted):
            yield

    return both()


def nothing_handed_over() -> AbstractContextManager[Any]:
    """What was acknowledged is not given to a Redis that lacks it."""
    return patch.object(Acknowledged, "of", lambda self, wanted, now: [])


def hold_skipped() -> AbstractContextManager[Any]:
    """Who gives back what was acknowledged does not wait for what other nodes have."""
    return patch.object(engine, "_HANDOVER", 0.0)


def hole_unnoticed() -> AbstractContextManager[Any]:
    """What is not in the stream that is given back is taken to have been."""
    return patch.object(Stream, "was_taken", lambda self, place, *, keeps: True)


def revocation_forgotten() -> AbstractContextManager[Any]:
    """Revocations are not given to a Redis that lacks them."""

    async def nothing(self: Control, shards: Any, link: Any) -> None:
        pass

    return patch.object(Control, "give", nothing)


BUGS: dict[str, Bug] = {
    bug.__name__.replace("_", "-"): bug
    for bug in (
        before_authentication, other_user, echo, unsubscribed, vault_delete_forgotten, swapped, replay_lost,
        replay_twice, resumed_too_far, foreign_cursor, join_leaks, timer_restarted, timer_late,
        device_unbounded, slow_kept, budget_kept, room_unnoticed, wakeup_lost, verified_twice,
        readiness_inherited, looked_at_still, timer_left, history_unbounded, task_leaked,
        device_left, revoked_stays, published_twice, gap_unnoticed, call_overtakes,
        nothing_handed_over, hold_skipped, hole_unnoticed, revocation_forgotten,
    )
}  # fmt: skip
"""By name."""
