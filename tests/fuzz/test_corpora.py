"""Every input that is kept, without atheris."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tests.fuzz.frames import open_frame_world
from tests.fuzz.targets import CHECKS, CORPORA, FRAMES, TARGETS, corpus

FRAME_INPUTS = {path.name: path.read_bytes() for path in corpus(FRAMES)}


def test_every_target_has_a_corpus_and_nothing_else_does() -> None:
    assert {path.name for path in CORPORA.iterdir()} == set(TARGETS)
    assert all(len(corpus(target)) > 10 for target in TARGETS)


@pytest.mark.parametrize(
    ("target", "path"),
    [pytest.param(target, path, id=f"{target}-{path.name}") for target in CHECKS for path in corpus(target)],
)
def test_input(target: str, path: Path) -> None:
    CHECKS[target](path.read_bytes())


@pytest.mark.parametrize("name", FRAME_INPUTS)
async def test_frames(name: str, autojump_clock: MockClock) -> None:
    async with open_frame_world() as world:
        await world.check(FRAME_INPUTS[name])


async def test_all_frames_in_one_world(autojump_clock: MockClock) -> None:
    async with open_frame_world() as world:
        with trio.fail_after(1e6):
            for data in FRAME_INPUTS.values():
                await world.check(data)
