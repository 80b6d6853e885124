"""What fails in one task harms no other."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.boundary import run_bounded


async def test_a_task_that_raises_is_logged_and_nothing_else(autojump_clock: MockClock) -> None:
    done = []

    async def fail(number: int) -> None:
        await trio.sleep(number)
        raise ValueError(number)

    async def succeed(number: int) -> None:
        await trio.sleep(number)
        done.append(number)

    with capture_logs() as log:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(run_bounded, fail, (number,))
                nursery.start_soon(run_bounded, succeed, (number,))
    assert done == [0, 1, 2]
    assert [(entry["log_level"], entry["event"]) for entry in log] == [("error", "a task failed")] * 3
    assert all("fail" in entry["task"] for entry in log)


async def test_without_arguments_and_without_a_name(autojump_clock: MockClock) -> None:
    class Task:
        async def __call__(self) -> None:
            raise ValueError

        def __repr__(self) -> str:
            return "a nameless task"

    with capture_logs() as log:
        await run_bounded(Task())
    assert [entry["task"] for entry in log] == ["a nameless task"]


async def test_cancelled_tasks_are_no_failures(autojump_clock: MockClock) -> None:
    with capture_logs() as log:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_bounded, trio.sleep_forever)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert log == []


async def test_what_is_no_ordinary_exception_passes(autojump_clock: MockClock) -> None:
    async def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_bounded, interrupted)
    assert isinstance(caught.value.exceptions[0], KeyboardInterrupt)
