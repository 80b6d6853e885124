"""What is done for all who wait for it at once."""

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.rounds import Rounds


@define
class Acts:
    """Two acts of a second each, and what came of it.

    Attributes:
        begun: When each act began.
        fails: What the first one raises, by the number of the round.
        ended: Who has waited for the end of a round, until when, and with what error.
    """

    begun: list[tuple[str, float]] = Factory(list)
    fails: dict[int, Exception] = Factory(dict)
    ended: list[tuple[str, float, str]] = Factory(list)

    async def first(self) -> None:
        number = len([name for name, _ in self.begun if name == "first"])
        self.begun.append(("first", trio.current_time()))
        await trio.sleep(1)
        if number in self.fails:
            raise self.fails[number]

    async def second(self) -> None:
        self.begun.append(("second", trio.current_time()))
        await trio.sleep(1)

    async def join(self, rounds: Rounds, name: str, after: float = 0.0) -> None:
        """Come after so many seconds, and wait."""
        await trio.sleep(after)
        said = ""
        try:
            await rounds.join()
        except REDIS_ERRORS as error:
            said = str(error)
        self.ended.append((name, trio.current_time(), said))


async def test_whoever_comes_during_a_round_waits_for_the_next(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    acts = Acts()
    rounds = Rounds([acts.first, acts.second])
    nursery.start_soon(rounds.run)
    async with trio.open_nursery() as joining:
        for name, after in (("a", 0.0), ("b", 0.0), ("c", 0.5), ("d", 1.5), ("e", 7.0)):
            joining.start_soon(acts.join, rounds, name, after)
    assert sorted(acts.ended) == [
        *(("a", 2.0, ""), ("b", 2.0, ""), ("c", 4.0, ""), ("d", 4.0, ""), ("e", 9.0, "")),
    ]
    # Nothing is done that nobody waits for.
    assert acts.begun == [
        *(("first", 0.0), ("second", 1.0), ("first", 2.0), ("second", 3.0), ("first", 7.0), ("second", 8.0)),
    ]


@pytest.mark.parametrize("error", [RedisUnavailableError("It is lost."), RedisRefusedError("NOREPLICAS no")])
async def test_what_fails_is_told_to_those_of_the_round(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception
) -> None:
    acts = Acts(fails={0: error})
    rounds = Rounds([acts.first, acts.second])
    nursery.start_soon(rounds.run)
    async with trio.open_nursery() as joining:
        for name, after in (("a", 0.0), ("b", 0.0), ("c", 0.5)):
            joining.start_soon(acts.join, rounds, name, after)
    assert sorted(acts.ended) == [("a", 1.0, str(error)), ("b", 1.0, str(error)), ("c", 3.0, "")]
    assert acts.begun == [("first", 0.0), ("first", 1.0), ("second", 2.0)]


async def test_whoever_is_cancelled_keeps_nobody_else_waiting(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    acts = Acts()
    rounds = Rounds([acts.first])
    nursery.start_soon(rounds.run)
    with trio.move_on_after(0.5) as scope:
        await rounds.join()
    assert scope.cancelled_caught
    await acts.join(rounds, "a")
    assert acts.ended == [("a", 2.0, "")]


async def test_with_the_last_round_all_is_over(autojump_clock: MockClock) -> None:
    acts = Acts()
    rounds = Rounds([acts.first])
    async with trio.open_nursery() as joining:
        async with trio.open_nursery() as running:
            running.start_soon(rounds.run)
            joining.start_soon(acts.join, rounds, "a", 0.0)
            joining.start_soon(acts.join, rounds, "b", 0.2)
            await trio.sleep(0.5)
            running.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        over = "The connection to Redis was lost before a write could be relied on."
        assert sorted(acts.ended) == [("a", 0.5, over), ("b", 0.5, over)]
        await acts.join(rounds, "c")
    assert acts.ended[2:] == [("c", 0.5, over)]
