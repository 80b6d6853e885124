"""Nothing is lost in silence when Redis, as it is deployed in production, fails over, moves or refuses.

`python -m tests.faults --mode` with the name of a deployment does the same for other seeds, and longer.
"""

import pytest

from tests.redis_server import find_program

from .deployments import DEPLOYMENTS
from .report import run_plan

pytestmark = [pytest.mark.sockets, pytest.mark.faults]

SEEDS = (1, 2, 3)
SECONDS = 8.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_what_is_accepted_reaches_everybody_who_is_not_told_otherwise(deployment: str, seed: int) -> None:
    find_program()
    report = run_plan(seed, SECONDS, deployment)
    print(report.text)
    assert not report.outcome.complaints, report.text
    assert report.outcome.figures["resumed"] > 0
