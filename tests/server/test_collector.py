"""The garbage collector while the daemon runs."""

import gc

import pytest

from localful_ws.server.collector import tuned_collector


@pytest.mark.parametrize(("threshold", "expected"), [(12_345, 12_345), (0, None)])
def test_thresholds_and_frozen_objects(threshold: int, expected: int | None) -> None:
    before, callbacks = gc.get_threshold(), list(gc.callbacks)
    with tuned_collector(threshold, lambda generation, seconds: None):
        assert gc.get_threshold()[0] == (before[0] if expected is None else expected)
        assert gc.get_freeze_count() > 1000
    assert (gc.get_threshold(), gc.get_freeze_count(), gc.callbacks) == (before, 0, callbacks)


def test_every_pause_is_reported() -> None:
    pauses: list[tuple[int, float]] = []
    with tuned_collector(0, lambda generation, seconds: pauses.append((generation, seconds))):
        pauses.clear()
        gc.collect(0)
        gc.collect(2)
    assert [generation for generation, _ in pauses] == [0, 2]
    assert all(0 <= seconds < 60 for _, seconds in pauses)


def test_it_is_put_back_when_the_daemon_fails() -> None:
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), tuned_collector(99_999, lambda generation, seconds: None):
        raise ZeroDivisionError
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
