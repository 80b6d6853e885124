"""How one task wakes others, and how it hands one of them what came of something."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.wakeup import Future, Signal

# --- signals ---


async def test_all_who_wait_are_woken_once(nursery: trio.Nursery) -> None:
    signal, woken = Signal(), list[str]()

    async def wait(name: str) -> None:
        await signal.wait()
        woken.append(name)

    nursery.start_soon(wait, "one")
    nursery.start_soon(wait, "another")
    await wait_all_tasks_blocked()
    signal.set()
    signal.set()
    nursery.start_soon(wait, "late")
    await wait_all_tasks_blocked()
    assert sorted(woken) == ["another", "one"]
    signal.set()
    await wait_all_tasks_blocked()
    assert woken[2:] == ["late"]


async def test_what_was_set_before_is_not_kept(autojump_clock: MockClock) -> None:
    signal = Signal()
    signal.set()
    with trio.move_on_after(1) as waiting:
        await signal.wait()
    assert waiting.cancelled_caught


async def test_who_looks_first_misses_nothing(autojump_clock: MockClock) -> None:
    """They take turns, each woken by the one before, who then looks and waits at once."""
    signal, turns = Signal(), list[int]()

    async def take_turns(number: int) -> None:
        for _ in range(10):
            while len(turns) % 3 != number:
                await signal.wait()
            turns.append(number)
            signal.set()

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(take_turns, number)
    assert turns == [0, 1, 2] * 10


async def test_who_gives_up_keeps_nobody_from_being_woken(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    signal, woken = Signal(), trio.Event()

    async def wait() -> None:
        await signal.wait()
        woken.set()

    nursery.start_soon(wait)
    with trio.move_on_after(1):
        await signal.wait()
    signal.set()
    with trio.fail_after(1):
        await woken.wait()


# --- futures ---


async def test_what_is_said_is_returned(nursery: trio.Nursery) -> None:
    future, returned = Future[str](), list[str]()

    async def wait() -> None:
        returned.append(await future.wait())

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert not returned
    future.set("first")
    future.set("second")
    future.fail(ValueError("third"))
    await wait_all_tasks_blocked()
    assert returned == ["first"]


async def test_an_error_is_raised() -> None:
    future = Future[str]()
    future.fail(ValueError("first"))
    future.set("second")
    with pytest.raises(ValueError, match="first"):
        await future.wait()


async def test_what_comes_of_something_that_is_done() -> None:
    future, done = Future[int](), list[int]()

    def act() -> int:
        done.append(1)
        return len(done)

    future.set_by(act)
    future.set_by(act)
    assert await future.wait() == 1
    assert done == [1]


async def test_what_something_raises_that_is_done() -> None:
    future = Future[float]()
    future.set_by(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await future.wait()


async def test_whoever_was_cancelled_wants_it_no_more(autojump_clock: MockClock) -> None:
    future, done = Future[None](), list[str]()
    with trio.move_on_after(1) as waiting:
        await future.wait()
    assert waiting.cancelled_caught
    future.set_by(lambda: done.append("done"))
    future.set(None)
    future.fail(ValueError())
    assert not done


async def test_what_was_said_is_returned_though_the_time_is_over(autojump_clock: MockClock) -> None:
    """What was done is done: nobody is told that it was not."""
    future = Future[int]()
    future.set(7)
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await future.wait() == 7
    assert not scope.cancelled_caught


async def test_what_is_said_in_the_moment_of_cancellation_is_returned(nursery: trio.Nursery) -> None:
    future, returned, scope = Future[int](), list[int](), trio.CancelScope()

    async def wait() -> None:
        with scope:
            returned.append(await future.wait())

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    future.set(7)
    scope.cancel()
    await wait_all_tasks_blocked()
    assert returned == [7]


async def test_what_is_done_in_the_moment_after_cancellation_is_not_done(nursery: trio.Nursery) -> None:
    """Whoever waited has not run since, and will be told that it was not done."""
    future, done, scope = Future[None](), list[str](), trio.CancelScope()

    async def wait() -> None:
        with scope:
            await future.wait()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    scope.cancel()
    future.set_by(lambda: done.append("done"))
    await wait_all_tasks_blocked()
    assert scope.cancelled_caught
    assert not done
