"""Some hundred worlds, one for each seed, and those that once failed."""

import os

import pytest
from attrs import evolve

from .command import kept_seeds
from .day import day_plan
from .run import run_seed

pytestmark = pytest.mark.slow

_SEEDS = int(os.environ.get("LOCALFUL_WS_SEEDS", "200"))
_AT_ONCE = 20


def replay(seed: int) -> str:
    return f"replay it with: python -m tests.simulation --seed {seed}"


@pytest.mark.parametrize("first", range(0, _SEEDS, _AT_ONCE))
def test_seeds(first: int) -> None:
    for seed in range(first, first + _AT_ONCE):
        outcome = run_seed(seed)
        assert outcome.complaints == [], replay(seed)


@pytest.mark.parametrize("seed", kept_seeds())
def test_kept_seeds(seed: int) -> None:
    assert run_seed(seed).complaints == [], replay(seed)


def test_a_quarter_of_an_hour_of_many_devices() -> None:
    outcome = run_seed(0, plan=evolve(day_plan(), seconds=900.0, devices=100))
    assert outcome.complaints == []
    assert outcome.figures["delivered"] > 0
