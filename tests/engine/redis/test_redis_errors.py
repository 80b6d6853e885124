"""What is left of the errors of several tasks."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError, raise_single


async def lose() -> None:
    """Raise what a connection does that breaks while its user is being cancelled."""
    try:
        await trio.sleep_forever()
    finally:
        raise RedisUnavailableError("lost")


async def test_whoever_is_cancelled_hears_of_no_loss() -> None:
    with trio.CancelScope() as scope:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lose)
                nursery.start_soon(trio.sleep_forever)
                await wait_all_tasks_blocked()
                scope.cancel()
        except BaseExceptionGroup as group:
            raise_single(group)
            raise
    assert scope.cancelled_caught


def test_a_loss_that_several_tasks_hear_of_is_one() -> None:
    lost, cause = RedisUnavailableError("lost"), OSError("cut")
    lost.__cause__ = cause
    group = ExceptionGroup("tasks", [RedisRefusedError("ERR no"), ExceptionGroup("readers", [lost, lost])])
    with pytest.raises(RedisUnavailableError, match="lost") as caught:
        raise_single(group)
    assert caught.value.__cause__ is cause


def test_a_refusal_that_is_alone_is_one() -> None:
    with pytest.raises(RedisRefusedError) as caught:
        raise_single(ExceptionGroup("tasks", [RedisRefusedError("OOM no memory")]))
    assert caught.value.code == "OOM"


def test_another_failure_stays() -> None:
    raise_single(ExceptionGroup("tasks", [RedisUnavailableError("lost"), ValueError()]))
    with pytest.raises(ValueError, match="other"):
        raise_single(ExceptionGroup("tasks", [ValueError("other")]))
