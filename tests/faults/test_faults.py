"""Nothing is lost whatever fails: one short run of each mode. `make faults` runs more of them, for longer."""

import shutil

import pytest

from .report import run_plan

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server"),
]

SEED = 1
SECONDS = 8.0


def test_devices_get_everything_once_and_in_order() -> None:
    report = run_plan(SEED, SECONDS, "long-history")
    assert not report.outcome.complaints, report.text
    assert report.outcome.figures["resumed"] > 0


def test_with_little_history_devices_get_everything_or_are_told() -> None:
    report = run_plan(SEED, SECONDS, "short-history")
    assert not report.outcome.complaints, report.text
    assert report.outcome.figures["resumed"] > 0
    assert report.outcome.figures["not resumed"] > 0, "history was never too short; nothing was tried"
