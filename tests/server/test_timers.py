"""Timers: everybody is called when due, in order, and who takes it back is not kept for long."""

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.clock import Clock
from localful_ws.server.timers import Timers

STARTED = 1_000_000.0


@define(eq=False)
class Caller:
    """Somebody who is called, and says how long it is until the next time.

    Attributes:
        pauses: Until when not to be called again, in seconds; after the last never.
        called: When it was called, in seconds since the start.
        due: See `localful_ws.server.timers.Timed`.
    """

    pauses: list[float] = Factory(list)
    called: list[float] = Factory(list)
    due: float | None = None

    def time_passed(self, now: float) -> float | None:
        self.called.append(round(now - STARTED, 3))
        return now + self.pauses.pop(0) if self.pauses else None


@pytest.fixture
async def timers(nursery: trio.Nursery) -> Timers:
    timers = Timers(Clock(lambda: STARTED))
    nursery.start_soon(timers.run)
    await wait_all_tasks_blocked()
    return timers


async def test_what_became_due_while_the_machine_slept(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    timers = Timers(clock)
    nursery.start_soon(timers.run)
    began, called = clock.now(), []

    class Expiry:
        due: float | None = None

        def time_passed(self, now: float) -> None:
            called.append(now - began)

    timers.set(Expiry(), began + 3000)
    await trio.sleep(1)
    assert called == []
    ahead = 3600.0
    clock.now()  # somebody reads it, for whatever reason
    await trio.sleep(0.1)
    assert called == [pytest.approx(3601)]


async def test_everybody_is_called_when_due(timers: Timers, autojump_clock: MockClock) -> None:
    often, once, never = Caller([3, 3, 4.5]), Caller(), Caller()
    timers.set(often, STARTED + 1)
    timers.set(never, STARTED + 1e6)
    timers.set(once, STARTED + 2)
    await trio.sleep(100)
    assert often.called == [1, 4, 7, 11.5]
    assert once.called == [2]
    assert never.called == []


async def test_somebody_earlier_comes_while_it_waits(timers: Timers, autojump_clock: MockClock) -> None:
    late, early = Caller(), Caller()
    timers.set(late, STARTED + 50)
    await trio.sleep(1)
    timers.set(early, STARTED + 3)
    await trio.sleep(10)
    assert (early.called, late.called) == ([3], [])
    await trio.sleep(40)
    assert late.called == [50]


async def test_what_is_overdue_is_called_at_once(timers: Timers, autojump_clock: MockClock) -> None:
    caller = Caller()
    await trio.sleep(5)
    timers.set(caller, STARTED + 1)
    await wait_all_tasks_blocked()
    assert caller.called == [5]


async def test_at_the_same_moment_the_order_is_that_of_asking(
    timers: Timers, autojump_clock: MockClock
) -> None:
    order: list[int] = []

    @define
    class Numbered:
        number: int
        due: float | None = None

        def time_passed(self, now: float) -> float | None:
            order.append(self.number)
            return None

    for number in range(500):  # more than are called without a break
        timers.set(Numbered(number), STARTED + 1)
    await trio.sleep(2)
    assert order == list(range(500))


async def test_what_is_set_anew_holds_alone(timers: Timers, autojump_clock: MockClock) -> None:
    later, sooner, twice = Caller(), Caller(), Caller()
    for caller, moments in ((later, (2, 5)), (sooner, (5, 2)), (twice, (3, 3))):
        for moment in moments:
            timers.set(caller, STARTED + moment)
        assert caller.due == STARTED + moments[-1]
    await trio.sleep(10)
    assert (later.called, sooner.called, twice.called) == ([5], [2], [3])
    assert (later.due, sooner.due, twice.due) == (None, None, None)


async def test_who_is_due_no_more_is_not_called(timers: Timers, autojump_clock: MockClock) -> None:
    gone, kept = Caller([1]), Caller()
    timers.set(gone, STARTED + 1)
    gone.due = None
    timers.set(kept, STARTED + 2)
    await trio.sleep(5)
    assert (gone.called, kept.called) == ([], [2])


async def test_what_does_not_hold_any_more_does_not_pile_up(
    timers: Timers, autojump_clock: MockClock
) -> None:
    kept = [Caller() for _ in range(100)]
    for number, caller in enumerate(kept):
        timers.set(caller, STARTED + 1000 - number)
        for _ in range(50):
            gone = Caller()
            timers.set(gone, STARTED + 1e6)
            gone.due = None
            timers.set(caller, STARTED + 1000 - number - 0.5)
            timers.set(caller, STARTED + 1000 - number)
    assert len(timers) < 2048
    await trio.sleep(2000)
    assert [caller.called for caller in kept] == [[1000 - number] for number in range(100)]


async def test_those_who_stay_are_not_looked_through_each_time(
    timers: Timers, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[int] = []
    sweep = Timers._sweep

    def counting(self: Timers) -> None:
        sweeps.append(len(self))
        sweep(self)

    monkeypatch.setattr(Timers, "_sweep", counting)
    callers = [Caller() for _ in range(10_000)]
    for caller in callers:
        timers.set(caller, STARTED + 1e6)
    assert sweeps == [1024, 2048, 4096, 8192]
    assert len(timers) == 10_000


async def test_who_is_set_while_being_called_says_last_when(
    timers: Timers, autojump_clock: MockClock
) -> None:
    calls: list[float] = []

    class Twofold:
        due: float | None = None

        def time_passed(self, now: float) -> float | None:
            assert self.due is None
            calls.append(round(now - STARTED, 3))
            if len(calls) == 1:
                timers.set(self, STARTED + 3)
                return None  # what was set holds
            if len(calls) == 2:
                timers.set(self, STARTED + 5)
                return STARTED + 4
            return None

    timers.set(Twofold(), STARTED + 1)
    await trio.sleep(10)
    assert calls == [1, 3, 4]


async def test_others_run_while_many_are_called(timers: Timers, autojump_clock: MockClock) -> None:
    callers = [Caller() for _ in range(1000)]
    for caller in callers:
        timers.set(caller, STARTED + 1)
    seen: set[int] = set()
    with trio.move_on_after(1.5):
        await trio.sleep(1)
        while True:
            seen.add(sum(len(caller.called) for caller in callers))
            if 1000 in seen:
                break
            await trio.lowlevel.checkpoint()
    assert seen - {0, 1000}
