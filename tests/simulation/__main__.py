"""Run seeds: ``python -m tests.simulation --seed 7``."""

import sys

from tests.simulation.command import main

if __name__ == "__main__":
    sys.exit(main())
