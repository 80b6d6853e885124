"""The timekeeper: everybody is called when due, in order, and an idle one costs nothing."""

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.clock import Clock
from localful_ws.server.timekeeper import Timekeeper

STARTED = 1_000_000.0


@define(eq=False)
class Caller:
    """Somebody who is called, and says how long it is until the next time.

    Attributes:
        pauses: Until when not to be called again, in seconds; after the last never.
        called: When it was called, in seconds since the start.
    """

    pauses: list[float] = Factory(list)
    called: list[float] = Factory(list)

    def time_passed(self, now: float) -> float | None:
        self.called.append(round(now - STARTED, 3))
        return now + self.pauses.pop(0) if self.pauses else None


@pytest.fixture
async def timekeeper(nursery: trio.Nursery) -> Timekeeper:
    timekeeper = Timekeeper(Clock(lambda: STARTED))
    nursery.start_soon(timekeeper.run)
    await wait_all_tasks_blocked()
    return timekeeper


async def test_the_clock(autojump_clock: MockClock) -> None:
    clock = Clock(lambda: STARTED)
    assert clock.now() == STARTED
    await trio.sleep(2.5)
    assert clock.now() == STARTED + 2.5
    with trio.move_on_at(clock.deadline(STARTED + 4)) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert clock.now() == STARTED + 4


async def test_the_clock_catches_up_with_the_time_of_day(autojump_clock: MockClock) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    started = clock.now()
    ahead = 3600.0  # the machine slept, and its monotonic clock with it
    assert clock.now() == pytest.approx(started + 3600)
    await trio.sleep(2.5)
    assert clock.now() == pytest.approx(started + 3602.5)


async def test_the_clock_never_runs_backwards(autojump_clock: MockClock) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    started = clock.now()
    ahead = -3600.0
    assert clock.now() == started
    await trio.sleep(2.5)
    assert clock.now() == pytest.approx(started + 2.5)


async def test_what_became_due_while_the_machine_slept(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    timekeeper = Timekeeper(clock)
    nursery.start_soon(timekeeper.run)
    began, called = clock.now(), []

    class Expiry:
        def time_passed(self, now: float) -> None:
            called.append(now - began)

    timekeeper.appoint(Expiry(), began + 3000)
    await trio.sleep(1)
    assert called == []
    ahead = 3600.0
    clock.now()  # somebody reads it, for whatever reason
    await trio.sleep(0.1)
    assert called == [pytest.approx(3601)]


async def test_everybody_is_called_when_due(timekeeper: Timekeeper, autojump_clock: MockClock) -> None:
    often, once, never = Caller([3, 3, 4.5]), Caller(), Caller()
    timekeeper.appoint(often, STARTED + 1)
    timekeeper.appoint(never, STARTED + 1e6)
    timekeeper.appoint(once, STARTED + 2)
    await trio.sleep(100)
    assert often.called == [1, 4, 7, 11.5]
    assert once.called == [2]
    assert never.called == []


async def test_somebody_earlier_comes_while_it_waits(
    timekeeper: Timekeeper, autojump_clock: MockClock
) -> None:
    late, early = Caller(), Caller()
    timekeeper.appoint(late, STARTED + 50)
    await trio.sleep(1)
    timekeeper.appoint(early, STARTED + 3)
    await trio.sleep(10)
    assert (early.called, late.called) == ([3], [])
    await trio.sleep(40)
    assert late.called == [50]


async def test_what_is_overdue_is_called_at_once(timekeeper: Timekeeper, autojump_clock: MockClock) -> None:
    caller = Caller()
    await trio.sleep(5)
    timekeeper.appoint(caller, STARTED + 1)
    await wait_all_tasks_blocked()
    assert caller.called == [5]


async def test_at_the_same_moment_the_order_is_that_of_asking(
    timekeeper: Timekeeper, autojump_clock: MockClock
) -> None:
    order: list[int] = []

    @define
    class Numbered:
        number: int

        def time_passed(self, now: float) -> float | None:
            order.append(self.number)
            return None

    for number in range(500):  # more than are called without a break
        timekeeper.appoint(Numbered(number), STARTED + 1)
    await trio.sleep(2)
    assert order == list(range(500))


async def test_a_cancelled_appointment_passes_unnoticed(
    timekeeper: Timekeeper, autojump_clock: MockClock
) -> None:
    cancelled, kept = Caller([1]), Caller()
    timekeeper.appoint(cancelled, STARTED + 1).cancel()
    timekeeper.appoint(kept, STARTED + 2)
    await trio.sleep(5)
    assert (cancelled.called, kept.called) == ([], [2])


async def test_cancelled_appointments_do_not_pile_up(
    timekeeper: Timekeeper, autojump_clock: MockClock
) -> None:
    kept = [Caller() for _ in range(100)]
    for number, caller in enumerate(kept):
        timekeeper.appoint(caller, STARTED + 1000 - number)
        for _ in range(100):
            timekeeper.appoint(Caller(), STARTED + 1e6).cancel()
    assert len(timekeeper) < 2048
    await trio.sleep(2000)
    assert [caller.called for caller in kept] == [[1000 - number] for number in range(100)]


async def test_cancelling_while_being_called(timekeeper: Timekeeper, autojump_clock: MockClock) -> None:
    calls: list[float] = []

    class Leaver:
        def time_passed(self, now: float) -> float | None:
            calls.append(now - STARTED)
            appointment.cancel()
            return now + 1

    appointment = timekeeper.appoint(Leaver(), STARTED + 1)
    await trio.sleep(10)
    assert calls == [pytest.approx(1, abs=1e-3)]


async def test_others_run_while_many_are_called(timekeeper: Timekeeper, autojump_clock: MockClock) -> None:
    callers = [Caller() for _ in range(1000)]
    for caller in callers:
        timekeeper.appoint(caller, STARTED + 1)
    seen: set[int] = set()
    with trio.move_on_after(1.5):
        await trio.sleep(1)
        while True:
            seen.add(sum(len(caller.called) for caller in callers))
            if 1000 in seen:
                break
            await trio.lowlevel.checkpoint()
    assert seen - {0, 1000}
