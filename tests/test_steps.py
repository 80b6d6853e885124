"""Steps: all at once, or in turns with others."""

import trio

from localful_ws.steps import Steps, finish, take_turns


def count_to(most: int, seen: list[str]) -> Steps[int]:
    for number in range(most):
        seen.append(f"step {number}")
        yield
    return most


def test_all_at_once() -> None:
    seen = list[str]()
    assert finish(count_to(2, seen)) == 2
    assert seen == ["step 0", "step 1"]


async def test_others_run_in_between() -> None:
    seen = list[str]()

    async def other() -> None:
        for number in range(2):
            seen.append(f"other {number}")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await take_turns(count_to(3, seen)) == 3
    assert seen.index("other 0") < seen.index("step 2")
