"""From events to frames on their way: who has a turn in between, what is shared, and what fails for whom."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import trio
from attrs import define, frozen
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.engine import Entry, entry_of
from localful_ws.metrics import Metrics
from localful_ws.protocol import Connection, Event, EventName, Verdict
from localful_ws.routing import Router
from localful_ws.server import delivery as delivery_module
from localful_ws.server.delivery import Delivery
from localful_ws.server.device import Device
from localful_ws.server.send_buffer import Piece, pieces_of
from tests.redis_world import settle
from tests.world import TestDevice, World, open_world

Log = list[tuple[str, int]]


@define(eq=False)
class Recorder:
    """A device that wants everything and notes when it gets it.

    Attributes:
        number: Which it is.
        log: Where all of them note what happens.
        pieces: What it got.
        failures: What it raises, by what it is asked to do.
        failed: How often it was told that it failed.
    """

    number: int
    log: Log
    pieces: list[Piece]
    failures: dict[str, Exception]
    failed: int = 0

    @property
    def core(self) -> "Recorder":
        return self

    def wants(self, event: Event) -> Verdict:
        self._do("wants")
        return Verdict.DELIVER

    def send_batch(self, pieces: Sequence[Piece]) -> None:
        self._do("sent")
        self.pieces += pieces

    def event_passed(self, event: Event) -> None:
        self._do("ended")

    def fail(self) -> None:
        self.failed += 1

    def _do(self, what: str) -> None:
        if what in self.failures:
            raise self.failures[what]
        if what != "wants":
            self.log.append((what, self.number))


def record(router: Router[Device], log: Log, user: str = "ada", **failures: Exception) -> Recorder:
    recorder = Recorder(len(tuple(router)), log, [], failures)
    router.add(user, cast("Device", recorder))
    return recorder


def updates(*users: str) -> list[Entry]:
    return [entry_of(Event(EventName.USER_UPDATE, user), f"c.{number}") for number, user in enumerate(users)]


@pytest.mark.parametrize("name", [EventName.VAULT_DELETE, EventName.USER_DELETE])
@pytest.mark.parametrize(("count", "before"), [(1, 0), (1000, 0), (20, 99), (0, 1)])
async def test_nobody_else_has_a_turn_between_the_end_of_a_life_and_what_follows(
    autojump_clock: MockClock, nursery: trio.Nursery, name: EventName, count: int, before: int
) -> None:
    log: Log = []
    router = Router[Device]()
    for _ in range(count):
        record(router, log)

    async def others() -> None:
        while True:
            log.append(("turn", 0))
            await trio.lowlevel.checkpoint()

    end = Event(name, "ada", None if name is EventName.USER_DELETE else "v")
    events = [Event(EventName.USER_UPDATE, "ada")] * before + [end]
    nursery.start_soon(others)
    await Delivery(router, Metrics(), pytest.fail).deliver([entry_of(event, "c") for event in events])
    nursery.cancel_scope.cancel()

    assert (("turn", 0) in log) is (count * len(events) > 400)
    open_ended: set[int] = set()
    ended: list[int] = []
    for what, number in log:
        if what == "sent":
            open_ended.add(number)
        elif what == "ended":
            open_ended.remove(number)
            ended.append(number)
        else:
            assert open_ended == set()
    assert ended == list(range(count))


@pytest.mark.parametrize("count", [1, 2, 30])
async def test_devices_that_want_the_same_share_it(autojump_clock: MockClock, count: int) -> None:
    router = Router[Device]()
    recorders = [record(router, []) for _ in range(5)]
    metrics = Metrics()
    entries = updates(*["ada"] * count)
    await Delivery(router, metrics, pytest.fail).deliver(entries)
    first = recorders[0].pieces
    assert b"".join(piece.data for piece in first) == b"".join(entry.frame for entry in entries)
    for other in recorders[1:]:
        assert all(mine is theirs for mine, theirs in zip(first, other.pieces, strict=True))
    assert metrics.events_delivered == 5 * count


async def test_who_wants_something_else_gets_something_else(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        both, one, none, other = [
            await world.device("ada", f"g{number}", *vaults)
            for number, vaults in enumerate([("v", "w"), ("v",), (), ("w",)])
        ]
        await world.publish(
            *({"event": "item-create", "user": "ada", "vault": vault, "data": vault} for vault in "vwvw")
        )
        assert [
            "".join(message["data"] for message in device.messages) for device in (both, one, none, other)
        ] == ["vwvw", "vv", "", "ww"]


# --- what fails ---


@frozen
class UnreadableEntry:
    """An entry whose frame can't be had."""

    event: Event
    cursor: str = "c"

    @property
    def frame(self) -> bytes:
        raise ZeroDivisionError


def poison_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    wants = Connection.wants

    def poisoned(self: Connection, event: Event) -> Verdict:
        if event.user == "ada" and self.session is not None and self.session.group == "g1":
            raise ZeroDivisionError
        return wants(self, event)

    monkeypatch.setattr(Connection, "wants", poisoned)


def poison_devices_of(monkeypatch: pytest.MonkeyPatch) -> None:
    devices_of = Router.devices_of
    asked: list[str] = []

    def poisoned(self: Router[Device], user: str) -> Sequence[Device]:
        asked.append(user)
        if user == "ada" and asked.count("ada") == 1:
            raise ZeroDivisionError
        return devices_of(self, user)

    monkeypatch.setattr(Router, "devices_of", poisoned)


def poison_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(frames: Sequence[bytes]) -> list[Piece]:
        if any(b"for ada" in frame for frame in frames):
            raise ZeroDivisionError
        return pieces_of(frames)

    monkeypatch.setattr(delivery_module, "pieces_of", poisoned)
    monkeypatch.setattr(delivery_module, "piece_of", lambda frame: poisoned([frame])[0])


def poison_nothing(_: pytest.MonkeyPatch) -> None:
    """What is unreadable is in the entries."""


def event_for(user: str, data: str) -> dict[str, Any]:
    return {"event": "user-update", "user": user, "data": data}


async def check_that_only_ada_lost_something(
    world: World, devices: dict[str, list[TestDevice]], count: int
) -> None:
    assert [device.closed for device in devices["ada"]] == [(4413, "missed-events")] * 3
    for user in ("bob", "zoe"):
        for device in devices[user]:
            assert device.closed is None
            assert [message["data"] for message in device.messages] == [f"for {user}"] * count
    assert set(world.take_failures()) == {"events could not be routed"}
    assert world.closes() == {"missed-events": 3}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("portion", [1, 400])
@pytest.mark.parametrize("poison", [poison_wants, poison_devices_of, poison_pieces, poison_nothing])
async def test_what_fails_loses_one_user(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    poison: Callable[[pytest.MonkeyPatch], None],
    portion: int,
    count: int,
) -> None:
    monkeypatch.setattr(delivery_module, "_QUESTIONS_WITHOUT_A_BREAK", portion)
    users = ("bob", "ada", "zoe")
    async with open_world() as world:
        devices = {user: [await world.device(user, f"g{number}") for number in range(3)] for user in users}
        entries = world.entries([event_for(user, f"for {user}") for user in users] * count)
        if poison is poison_nothing:
            entries = [
                cast("Entry", UnreadableEntry(entry.event)) if entry.event.user == "ada" else entry
                for entry in entries
            ]
        poison(monkeypatch)
        await world.node.subscriber.route(entries, trio.current_time())
        monkeypatch.undo()
        await settle()
        await check_that_only_ada_lost_something(world, devices, count)
        # The process goes on, and so does ada when she comes again.
        again = await world.device("ada")
        await world.publish(*(event_for(user, "later") for user in users))
        for device in (again, *devices["bob"], *devices["zoe"]):
            assert device.messages[-1]["data"] == "later"


async def test_what_fails_is_told_by_an_engine_that_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world() as world:
        devices = {
            user: [await world.device(user, f"g{n}") for n in range(3)] for user in ("ada", "bob", "zoe")
        }
        poison_pieces(monkeypatch)
        await world.publish(*(event_for(user, f"for {user}") for user in devices))
        monkeypatch.undo()
        await check_that_only_ada_lost_something(world, devices, 1)
        resumed = await world.open()
        await resumed.say(
            {"event": "authenticate", "token": world.token(), "since": devices["ada"][0].cursors[0]}
        )
        assert [message.get("data") for message in resumed.messages] == [None, "for ada"]


@pytest.mark.parametrize("what", ["sent", "ended"])
async def test_what_fails_in_one_device_is_its_own(autojump_clock: MockClock, what: str) -> None:
    router = Router[Device]()
    log: Log = []
    recorders = [
        record(router, log, "ada", **({what: ZeroDivisionError()} if n == 1 else {})) for n in range(3)
    ]
    entries = [entry_of(Event(EventName.USER_DELETE, "ada"), "c"), *updates("ada")]
    await Delivery(router, Metrics(), pytest.fail).deliver(entries)
    assert [recorder.failed > 0 for recorder in recorders] == [False, True, False]
    for number in (0, 2):
        assert [each for each in log if each[1] == number] == [
            ("sent", number),
            ("ended", number),
            ("sent", number),
        ]


async def test_devices_that_cannot_be_told_what_they_missed(autojump_clock: MockClock) -> None:
    """Even then the others get theirs."""
    lost: list[str] = []

    def lose(user: str) -> None:
        lost.append(user)
        raise ZeroDivisionError

    router = Router[Device]()
    ada = record(router, [], "ada", wants=ZeroDivisionError())
    bob = record(router, [], "bob")
    with capture_logs() as log:
        await Delivery(router, Metrics(), lose).deliver(updates("ada", "bob", "ada"))
    assert (lost, ada.pieces, len(bob.pieces)) == (["ada"], [], 1)
    assert [entry["event"] for entry in log] == ["events could not be routed"] * 2
