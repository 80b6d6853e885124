"""Devices without a task: pushed by one poller, in any order, with what it says being old."""

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, cast

import pytest
import trio
from attrs import Factory, define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.device import Device
from localful_ws.server.parking import Parking
from localful_ws.server.websocket import Phase
from localful_ws.tokens import StaticKeyVerifier, TokenRules
from tests.raw_device import PING, RawDevice, close, frame, handshake, text
from tests.redis_world import settle
from tests.server.loopback import Loopback, open_loopback, reset, socket_of, until
from tests.server.sockets import ENDLESS, FakePoller, FakeSocket, PeerStream, fake_pair
from tests.server.verifiers import SlowVerifier, slow_verifier
from tests.world import SECRET, World, open_world

UPDATE = {"event": "user-update", "user": "ada"}

# --- the parking alone ---


@define(eq=False)
class Pushed:
    """Stands in for a device, and notes how it is pushed.

    Attributes:
        line: Its socket.
        parking: Where it is parked.
        act: What it does when something has come, beside taking note.
        got: What has come.
        buffer: Whether something waits to be sent.
        phase: How far it is on its way to its end.
        ended: How it ended.
        failures: How often it was told that it failed.
    """

    line: FakeSocket
    parking: Parking
    act: Callable[[], object] = lambda: None
    got: list[bytes] = Factory(list)
    buffer: bool | None = None
    reading: bool = True
    verifying: bool = False
    phase: Phase = Phase.OPEN
    ended: list[str] = Factory(list)
    failures: int = 0
    verified: trio.Event = field(factory=trio.Event)

    @property
    def device(self) -> Device:
        return cast("Device", self)

    def received(self, data: bytes) -> None:
        self.got.append(data)
        self.act()

    def writable(self) -> None:
        self.buffer = None
        self.parking.interest_changed(self.device)

    def lost(self) -> None:
        self._leave("lost", at_once=False)

    def abort(self) -> None:
        self._leave("aborted", at_once=True)

    def _leave(self, how: str, *, at_once: bool) -> None:
        self.reading = False
        self.ended.append(how)
        self.parking.close(self.device, at_once=at_once)

    def fail(self) -> None:
        self.failures += 1
        self.abort()

    async def verify(self) -> None:
        await self.verified.wait()
        self.verifying, self.reading = False, True


@define(eq=False)
class Lot:
    """A parking, its poller, and what runs."""

    poller: FakePoller
    parking: Parking
    nursery: trio.Nursery

    def park(self, act: Callable[[], object] = lambda: None, **how: Any) -> Pushed:
        pushed = Pushed(self.poller.socket(), self.parking, act, **how)
        self.parking.park(pushed.device)
        return pushed


@asynccontextmanager
async def open_lot(seed: int = 0) -> AsyncIterator[Lot]:
    poller = FakePoller(Random(seed))
    async with trio.open_nursery() as nursery:
        parking = Parking(poller, nursery.start_soon)
        nursery.start_soon(parking.run)
        yield Lot(poller, parking, nursery)
        nursery.cancel_scope.cancel()
    assert (len(parking), poller.looked_at, poller.is_closed) == (0, {}, True)


async def test_what_comes_is_pushed(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        one, other = lot.park(), lot.park()
        one.line.feed(b"a")
        await wait_all_tasks_blocked()
        other.line.feed(b"x" * 5000)
        await wait_all_tasks_blocked()
        assert one.got == [b"a"]
        assert list(map(len, other.got)) == [4096, 904]
        one.line.end()
        other.line.break_off()
        await wait_all_tasks_blocked()
        assert (one.ended, other.ended) == (["lost"], ["lost"])
        assert (len(lot.parking), lot.poller.open_sockets()) == (0, [])


async def test_nobody_is_looked_at_for_what_it_does_not_want(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        pushed = lot.park(reading=False)
        pushed.line.feed(b"a")
        await wait_all_tasks_blocked()
        assert (pushed.got, lot.poller.polls) == ([], 0)
        pushed.reading, pushed.buffer = True, True
        lot.parking.interest_changed(pushed.device)
        await wait_all_tasks_blocked()
        assert [pushed.got, pushed.buffer, lot.poller.polls] == [[b"a"], None, 1]


async def test_who_does_not_read_is_told_of_a_reset_once(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        pushed = lot.park(reading=False)
        pushed.line.break_off()
        await wait_all_tasks_blocked()
        assert (pushed.ended, lot.poller.polls) == (["lost"], 1)


@pytest.mark.parametrize("seed", range(8))
async def test_whoever_closes_the_others_that_are_ready(autojump_clock: MockClock, seed: int) -> None:
    """The first that is pushed closes all others, and their numbers are at once those of new devices."""
    async with open_lot(seed) as lot:
        new: list[Pushed] = []

        def close_the_others() -> None:
            for each in pushed:
                if not each.got:
                    each.abort()
            new.extend(lot.park() for _ in range(4))

        pushed = [lot.park(close_the_others) for _ in range(5)]
        numbers = {each.line.number for each in pushed}
        for each in pushed:
            each.line.feed(b"a")
        await wait_all_tasks_blocked()
        assert sorted(map(len, [each.got for each in pushed])) == [0, 0, 0, 0, 1]
        assert [each.ended for each in pushed if not each.got] == [["aborted"]] * 4
        assert {each.line.number for each in new} < numbers
        assert [(each.got, each.ended, each.failures) for each in new] == [([], [], 0)] * 4
        for each in new:
            each.line.feed(b"b")
        await wait_all_tasks_blocked()
        assert [each.got for each in new] == [[b"b"]] * 4


async def test_who_fails_harms_nobody_else(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:

        def fail() -> None:
            raise ZeroDivisionError

        bad, good = lot.park(fail), lot.park()
        bad.line.feed(b"a")
        good.line.feed(b"a")
        await wait_all_tasks_blocked()
        assert (bad.failures, good.failures, good.got) == (1, 0, [b"a"])


async def test_who_is_being_verified_reads_no_more_and_is_verified_once(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        other = lot.park()

        def wait() -> None:
            pushed.reading, pushed.verifying = False, True

        pushed = lot.park(wait)
        pushed.line.feed(b"a")
        await wait_all_tasks_blocked()
        tasks = len(lot.nursery.child_tasks)
        pushed.buffer = True
        lot.parking.interest_changed(pushed.device)
        pushed.line.feed(b"b")
        other.line.feed(b"c")
        await wait_all_tasks_blocked()
        assert [pushed.got, pushed.buffer, other.got] == [[b"a"], None, [b"c"]]
        assert len(lot.nursery.child_tasks) == tasks
        pushed.act = lambda: None
        pushed.verified.set()
        await wait_all_tasks_blocked()
        assert pushed.got == [b"a", b"b"]
        assert len(lot.nursery.child_tasks) == tasks - 1


async def test_a_turn_has_an_end_and_nobody_starves(autojump_clock: MockClock) -> None:
    """Many that are always ready, of which a turn has time for two: all come as often, and others go on."""
    async with open_lot() as lot:
        lot.poller.most = 7
        order: list[Pushed] = []
        steps = 0

        async def somebody_else() -> None:
            nonlocal steps
            while True:
                steps += 1
                await trio.lowlevel.checkpoint()

        def flood(each: int) -> None:
            order.append(flooding[each])
            autojump_clock.jump(0.0011)
            flooding[each].line.feed(b"x")
            if len(order) >= 700:
                lot.nursery.cancel_scope.cancel()

        flooding = [lot.park(partial(flood, each)) for each in range(7)]
        lot.nursery.start_soon(somebody_else)
        for each in flooding:
            each.line.feed(b"x")
        with trio.CancelScope():
            await trio.sleep_forever()
    for start in range(0, 700, 7):
        assert set(order[start : start + 7]) == set(flooding)
    assert steps >= 350


async def test_a_place_that_can_not_be_had(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        pushed = Pushed(lot.poller.socket(), lot.parking)
        lot.poller.full = True
        with pytest.raises(OSError, match="No space left"):
            lot.parking.park(pushed.device)
        assert len(lot.parking) == 0
        pushed.abort()
        assert lot.poller.open_sockets() == []


async def test_it_ends_when_nobody_is_there_any_more(autojump_clock: MockClock) -> None:
    poller = FakePoller()
    async with trio.open_nursery() as nursery:
        parking = Parking(poller, nursery.start_soon)
        nursery.start_soon(parking.run)
        lot = Lot(poller, parking, nursery)
        one, other = lot.park(), lot.park()
        one.abort()
        parking.finish()
        await wait_all_tasks_blocked()
        assert not poller.is_closed
        other.line.feed(b"a")
        await wait_all_tasks_blocked()
        assert other.got == [b"a"]
        other.line.end()
    assert (poller.is_closed, poller.looked_at) == (True, {})


async def test_cancelled_it_drops_all(autojump_clock: MockClock) -> None:
    async with open_lot() as lot:
        pushed = [lot.park() for _ in range(3)]
    assert [each.ended for each in pushed] == [["aborted"]] * 3
    assert lot.poller.open_sockets() == []


# --- a node whose devices are parked ---


@define(eq=False)
class Kernel:
    """A world whose devices come on sockets, and who wrote to them.

    Attributes:
        world: The world.
        poller: Its poller, and the kernel.
    """

    world: World
    poller: FakePoller

    async def raw(self, *data: bytes, window: int = ENDLESS) -> RawDevice:
        """Connect; ``window`` bytes are taken from the node that the device has not read."""
        return await self.world.raw(*data, make_pair=partial(fake_pair, self.poller, window))

    async def parked(self, user: str = "ada", *, group: str = "laptop", window: int = ENDLESS) -> RawDevice:
        """Connect, and authenticate."""
        token = self.world.token(user, group)
        device = await self.raw(handshake(), window=window)
        await device.say(text({"event": "authenticate", "token": token, "vaults": ["a"]}))
        return device

    @property
    def parking(self) -> Parking:
        assert self.world.node.parking is not None
        return self.world.node.parking


def fake_socket_of(device: RawDevice) -> FakeSocket:
    assert isinstance(device.stream, PeerStream)
    return device.stream.sock


@asynccontextmanager
async def open_kernel(seed: int = 0, **how: Any) -> AsyncIterator[Kernel]:
    poller = FakePoller(Random(seed))
    async with open_world(poller=poller, **how) as world:
        yield Kernel(world, poller)
    assert (poller.open_sockets(), poller.is_closed) == ([], True)


async def test_a_parked_device_has_no_task(autojump_clock: MockClock) -> None:
    async with open_kernel() as kernel:
        tasks = len(kernel.world.connections.child_tasks)
        devices = [await kernel.parked() for _ in range(5)]
        assert len(kernel.world.connections.child_tasks) == tasks
        assert len(kernel.parking) == 5
        await kernel.world.publish(UPDATE, {"event": "item-create", "user": "ada", "vault": "a"})
        for device in devices:
            assert [message["event"] for message in device.messages[1:]] == ["user-update", "item-create"]
        await devices[0].say(frame(PING, b"x"), text({"vaults": ["b"], "id": "s"}))
        assert devices[0].pongs() == [b"x"]
        assert devices[0].messages[-1]["id"] == "s"
        assert len(kernel.world.connections.child_tasks) == tasks


async def test_a_renewal_that_is_verified_slowly(autojump_clock: MockClock) -> None:
    """What it sends meanwhile waits; it is told events, and others go on."""
    verifier = slow_verifier()
    async with open_kernel(verifier=verifier) as kernel:
        device, other = await kernel.parked(window=300), await kernel.parked()
        verifier.seconds = 1.0
        asked = verifier.asked
        token = kernel.world.token()
        await device.say(text({"event": "authenticate", "token": token, "id": "r1"}), text({"vaults": ["b"]}))
        await device.say(text({"event": "authenticate", "token": "wrong", "id": "r2"}))
        assert fake_socket_of(device).incoming
        # What waits to be sent leaves all the same, and so the device is pushed.
        await kernel.world.publish(*[UPDATE | {"data": "x" * 200}] * 5)
        await other.say(text({"vaults": ["c"], "id": "s"}))
        assert other.messages[-1]["id"] == "s"
        assert [message["event"] for message in device.messages[1:]] == ["user-update"] * 5
        await trio.sleep(0.999)
        assert verifier.asked == asked + 1
        await trio.sleep(1.1)
        await settle()
        assert verifier.asked == asked + 2
        answers = [message for message in device.messages[1:] if message["event"] != "user-update"]
        assert [(each["event"], each.get("id"), each.get("code")) for each in answers] == [
            ("authenticated", "r1", None),
            ("subscribed", None, None),
            ("error", "r2", "unauthorized"),
        ]
        assert device.closed is None


async def test_a_close_frame_behind_a_renewal(autojump_clock: MockClock) -> None:
    verifier = slow_verifier()
    async with open_kernel(verifier=verifier) as kernel:
        device = await kernel.parked()
        verifier.seconds = 1.0
        token = kernel.world.token()
        await device.say(text({"event": "authenticate", "token": token}), close())
        assert device.closed is None
        await device.ended.wait()
        assert [device.ended_at, device.closed] == [1.0, (1000, "normal")]
        assert len(device.messages) == 2


@pytest.mark.parametrize("how", ["reset", "end", "closed by the server"])
async def test_it_is_gone_while_its_token_is_verified(autojump_clock: MockClock, how: str) -> None:
    verifier = slow_verifier()
    async with open_kernel(verifier=verifier) as kernel:
        device = await kernel.parked()
        verifier.seconds = 1.0
        await device.say(text({"event": "authenticate", "token": kernel.world.token()}))
        if how == "reset":
            fake_socket_of(device).break_off()
            await settle()
            assert kernel.world.node.devices() == ()
        elif how == "end":
            fake_socket_of(device).end()
            await settle()
            # Seen when it is read again.
            assert len(tuple(kernel.world.node.devices())) == 1
        else:
            await kernel.world.disconnect(user="ada")
            await device.say(close(4403))
            # Its answer is looked at now.
            assert (device.ended_at, device.closed) == (0.0, (4403, "forbidden"))
        await trio.sleep(1.1)
        await settle()
        assert (kernel.world.node.devices(), len(kernel.parking)) == ((), 0)
        assert kernel.world.closes() == {
            "forbidden" if how == "closed by the server" else "connection-lost": 1
        }
        assert kernel.world.node.metrics.authentications == (2 if how == "end" else 1)


# --- the drain ---


async def test_a_drain_says_goodbye_to_all(autojump_clock: MockClock) -> None:
    async with open_kernel() as kernel:
        devices = [await kernel.parked() for _ in range(3)]
        waiting = await kernel.raw(handshake())
        kernel.world.nursery.start_soon(kernel.world.node.drain, 4)
        for device in [*devices, waiting]:
            await trio.sleep(0.5)
            assert device.closed == (1001, "server-shutdown")
            await device.say(close(1001))
        await trio.sleep(0.1)
        await settle()
        # All are gone, and so it is over before its time.
        assert (kernel.world.now() < 2.5, kernel.poller.is_closed) == (True, True)
        assert kernel.world.closes() == {"server-shutdown": 4}


async def test_who_authenticates_when_it_is_closed_by_the_drain(autojump_clock: MockClock) -> None:
    """It is parked to be closed in good order, though nobody else is parked any more."""
    async with open_kernel() as kernel:
        device = await kernel.raw(handshake())
        kernel.world.nursery.start_soon(kernel.world.node.drain, 10)
        await settle()
        assert device.closed == (1001, "server-shutdown")
        await device.say(text({"event": "authenticate", "token": kernel.world.token()}))
        assert (device.ended_at, len(kernel.parking)) == (None, 1)
        await device.say(close(1001))
        assert device.ended_at == 0
        await settle()
        assert (kernel.poller.is_closed, kernel.world.closes()) == (True, {"server-shutdown": 1})


async def test_who_is_closed_shortly_before_it_has_to_authenticate(autojump_clock: MockClock) -> None:
    """It has the time that closing takes, however little was left for authentication."""
    async with open_kernel() as kernel:
        device = await kernel.raw(handshake())
        await trio.sleep(2.9)
        kernel.world.nursery.start_soon(kernel.world.node.drain, 10)
        await trio.sleep(4.9)
        await settle()
        assert (device.closed, device.ended_at) == ((1001, "server-shutdown"), None)
        await device.ended.wait()
        assert device.ended_at == 2.9 + 5
        assert kernel.world.closes() == {"server-shutdown": 1}


async def test_who_is_there_at_the_end_of_the_drain_is_dropped(autojump_clock: MockClock) -> None:
    """However far it is on its way in at that moment; and nothing is logged about it."""
    async with open_kernel(close_timeout=100.0) as kernel:
        stubborn = await kernel.parked()
        waiting = await kernel.raw(handshake())
        node = kernel.world.node
        kernel.world.nursery.start_soon(node.drain, 4.0)

        async def answer_at_the_last_moment() -> None:
            await trio.sleep(4.0)
            await waiting.send(text({"event": "authenticate", "token": "x"}))

        kernel.world.nursery.start_soon(answer_at_the_last_moment)
        await trio.sleep(4.1)
        await settle()
        assert (stubborn.ended_at, waiting.ended_at) == (4.0, 4.0)
        assert (node.devices(), len(kernel.parking), kernel.poller.is_closed) == ((), 0, True)


# --- real sockets, and the system's epoll ---


def parking_of(loopback: Loopback) -> Parking:
    assert loopback.node.parking is not None
    return loopback.node.parking


def updates(data: str, many: int = 1) -> list[dict[str, str]]:
    return [{"event": "user-update", "user": "ada", "data": data}] * many


@pytest.mark.sockets
async def test_devices_on_real_sockets() -> None:
    async with open_loopback() as loopback:
        at_rest = len(loopback.connections.child_tasks)
        devices = [await loopback.device() for _ in range(30)]
        assert len(parking_of(loopback)) == 30
        assert len(loopback.connections.child_tasks) == at_rest
        await loopback.publish(*updates("x" * 1000, 3))
        await until(lambda: all(len(device.messages) == 4 for device in devices))
        for number, device in enumerate(devices):
            await device.send(text({"vaults": ["a"], "id": str(number)}), frame(PING, b"%d" % number))
        await until(lambda: all(device.pongs() for device in devices))
        assert [device.messages[-1]["id"] for device in devices] == [str(number) for number in range(30)]
        for device in devices[:10]:
            await device.send(close())
        for device in devices[10:20]:
            reset(device)
        for device in devices[20:]:
            socket_of(device).shutdown(socket.SHUT_WR)
        await until(lambda: not loopback.node.devices())
        assert len(parking_of(loopback)) == 0
        assert [device.closed for device in devices[:10]] == [(1000, "normal")] * 10
        closes = loopback.node.metrics.closes
        assert (closes["device-closed"], closes["connection-lost"]) == (10, 20)


@pytest.mark.sockets
async def test_one_that_stalls_and_reads_again() -> None:
    async with open_loopback(send_buffer=4096) as loopback:
        stalling, other = await loopback.stalling(), await loopback.device()
        many = 0
        while loopback.node.budget.bytes < 1_000_000:
            await loopback.publish(*updates("x" * 50_000))
            await trio.lowlevel.checkpoint()
            many += 1
        await until(lambda: len(other.messages) == many + 1)
        loopback.nursery.start_soon(stalling.read)
        await until(lambda: len(stalling.messages) == many + 1)
        assert stalling.messages[1:] == other.messages[1:]
        assert (loopback.node.budget.bytes, stalling.closed) == (0, None)
        # It is looked at for what it says, as before.
        await stalling.send(text({"vaults": ["a"]}))
        await until(lambda: len(stalling.messages) == many + 2)


@pytest.mark.sockets
async def test_it_waits_without_being_woken() -> None:
    """Neither a device that stalls nor one that is looked at for nothing keeps the loop turning."""
    verifier = SlowVerifier(StaticKeyVerifier(SECRET, "HS256", TokenRules(), time.time))
    async with open_loopback(send_buffer=4096, verifier=verifier) as loopback:
        stalling, waiting = await loopback.stalling(), await loopback.device()
        while loopback.node.budget.bytes < 100_000:
            await loopback.publish(*updates("x" * 50_000))
            await trio.lowlevel.checkpoint()
        verifier.seconds = 0.3
        await waiting.send(text({"event": "authenticate", "token": loopback.token()}), b"\x81")
        socket_of(waiting).shutdown(socket.SHUT_WR)
        socket_of(stalling).shutdown(socket.SHUT_RD)
        await trio.sleep(0.05)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(0.2)
        trio.lowlevel.remove_instrument(steps)
        assert steps.taken < 20


class Steps(trio.abc.Instrument):
    """Counts the steps that tasks take."""

    def __init__(self) -> None:
        self.taken = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.taken += 1


@pytest.mark.sockets
async def test_tls_beside_it() -> None:
    async with open_loopback(tls=True, send_buffer=4096) as loopback:
        at_rest = len(loopback.connections.child_tasks)
        device, stalling = await loopback.device(), await loopback.stalling()
        assert len(parking_of(loopback)) == 0
        assert len(loopback.connections.child_tasks) == at_rest + 2
        many = 0
        while loopback.node.budget.bytes < 300_000:
            await loopback.publish(*updates("x" * 50_000))
            await trio.lowlevel.checkpoint()
            many += 1
        loopback.nursery.start_soon(stalling.read)
        await until(lambda: len(device.messages) == len(stalling.messages) == many + 1)
        await device.send(close())
        reset(stalling)
        await until(lambda: not loopback.node.devices())
        await until(lambda: len(loopback.connections.child_tasks) == at_rest)


def is_told(device: RawDevice) -> bool:
    return device.closed is not None


@pytest.mark.sockets
@pytest.mark.parametrize("tls", [False, True])
async def test_the_drain_of_real_sockets(*, tls: bool) -> None:
    async with open_loopback(tls=tls, send_buffer=4096, close_timeout=0.2) as loopback:
        devices = [await loopback.device() for _ in range(5)]
        silent = await loopback.raw(handshake())
        stalling = await loopback.stalling()
        await loopback.publish(*updates("x" * 60_000, 20))
        await until(lambda: all(len(device.messages) == 21 for device in devices))
        drained = trio.Event()

        async def drain() -> None:
            await loopback.node.drain(2.0)
            drained.set()

        loopback.nursery.start_soon(drain)
        for device in [*devices, silent]:
            await until(partial(is_told, device))
            await device.send(close(1001))
            assert device.closed == (1001, "server-shutdown")
        await until(drained.is_set)
        assert (loopback.node.devices(), loopback.node.budget.bytes) == ((), 0)
        assert loopback.node.metrics.closes["server-shutdown"] == 7
        assert stalling.closed is None
