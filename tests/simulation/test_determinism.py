"""The same seed makes the same world, whatever process it is in."""

import os
import subprocess
import sys
from pathlib import Path

from .run import run_seed

_SEEDS = (0, 3, 20, 24)
_SAY = """
import sys
from tests.simulation.run import run_seed
print(*[run_seed(int(seed)).digest for seed in sys.argv[1:]])
"""


def test_a_seed_is_the_same_in_every_process() -> None:
    digests = [run_seed(seed).digest for seed in _SEEDS]
    assert digests == [run_seed(seed).digest for seed in _SEEDS]
    assert len(set(digests)) == len(_SEEDS)
    for hash_seed in ("1", "2"):
        # The order of a set of strings, and of what lies where in memory, is another one there.
        said = subprocess.run(
            [sys.executable, "-c", _SAY, *map(str, _SEEDS)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[1],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert said.stdout.split() == digests
