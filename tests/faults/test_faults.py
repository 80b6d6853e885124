"""Nothing is lost whatever fails: a short run in each mode. `make faults` runs more of them, for longer."""

import pytest

from tests.redis_server import find_program

from .report import Report, run_plan

pytestmark = [pytest.mark.sockets, pytest.mark.faults]

# In so short a time this one has every kind of fault.
SEED = 477
SECONDS = 6.0


def run(mode: str) -> Report:
    find_program()
    report = run_plan(SEED, SECONDS, mode)
    print(report.text)
    assert not report.outcome.complaints, report.text
    return report


def test_devices_get_everything_once_and_in_order() -> None:
    assert run("long-history").outcome.figures["resumed"] > 0


@pytest.mark.parametrize("mode", ["short-history", "lossy-redis"])
def test_devices_get_everything_or_are_told_that_they_miss_something(mode: str) -> None:
    figures = run(mode).outcome.figures
    assert figures["resumed"] > 0
    assert figures.get("not resumed", 0) > 0, "nobody missed anything; nothing was tried"
