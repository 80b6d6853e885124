"""The simulator finds what it is there to find: bugs are planted, one for each thing that must hold."""

import pytest

from .bugs import BUGS
from .command import find_bug

pytestmark = pytest.mark.slow

# Few take more than thirty; `python -m tests.simulation --bugs` goes up to a thousand, and says how many.
_SEEDS = 400


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    _, complaint = find_bug(name, _SEEDS)
    assert complaint is not None
