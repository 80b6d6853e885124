"""How fast a device may send: an allowance that grows back, kept as one number."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.protocol import Rate


def verdicts(rate: Rate, moments: Iterable[float]) -> list[bool]:
    """What becomes of things that come one by one: whether each is let through."""
    full_at, let_through = 0.0, list[bool]()
    for moment in moments:
        taken = rate.take(full_at, moment)
        let_through.append(taken is not None)
        full_at = full_at if taken is None else taken
    return let_through


@pytest.mark.parametrize(
    ("rate", "moments", "expected"),
    [
        (Rate(1, 1.0), [0.0], [True]),
        (Rate(1, 1.0), [0.0, 0.0, 0.9, 1.0, 1.5, 2.0], [True, False, False, True, False, True]),
        (Rate(3, 3.0), [0.0] * 4, [True, True, True, False]),
        (Rate(3, 3.0), [0.0, 0.0, 0.0, 1.0, 1.0], [True, True, True, True, False]),
        (Rate(3, 3.0), [0.0, 0.0, 0.0, 2.0, 2.0, 2.0], [True, True, True, True, True, False]),
        (Rate(3, 3.0), [0.0, 0.0, 0.0, 100.0, 100.0, 100.0, 100.0], [True] * 6 + [False]),
        # What is refused costs nothing: it does not put off the next that is allowed.
        (Rate(2, 2.0), [0.0, 0.0, 0.5, 0.6, 0.7, 1.0], [True, True, False, False, False, True]),
        # A device may go on for ever at the rate.
        (Rate(2, 1.0), [step / 2 for step in range(20)], [True] * 20),
    ],
)
def test_take(rate: Rate, moments: list[float], expected: list[bool]) -> None:
    assert verdicts(rate, moments) == expected


def test_what_is_kept_is_when_the_whole_allowance_is_there_again() -> None:
    rate = Rate(4, 10.0)
    once = rate.take(0.0, 100.0)
    assert once == 102.5
    assert rate.take(once, 101.0) == 105.0
    assert rate.take(once, 102.5) == rate.take(once, 102.5) == 105.0
    assert rate.take(once, 1000.0) == 1002.5


@given(
    st.integers(1, 500),
    st.sampled_from([1.0, 3.0, 7.0, 10.0, 60.0]),
    st.floats(1.6e9, 2.5e9),
)
def test_the_whole_allowance_may_come_at_once_at_unix_times(most: int, seconds: float, now: float) -> None:
    assert sum(verdicts(Rate(most, seconds), [now] * 2 * most)) == most


def test_it_forgives_what_rounding_may_add_and_no_more() -> None:
    rate, now = Rate(1, 1.0), 2.0**30
    rounding = math.ulp(now)
    assert verdicts(rate, [now, now + 1 - rounding]) == [True, True]
    assert verdicts(rate, [now, now + 1 - 2 * rounding]) == [True, False]


@given(
    st.integers(1, 20),
    st.sampled_from([1.0, 10.0]),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=100),
)
def test_never_more_than_the_rate_in_any_stretch(most: int, seconds: float, pauses: list[float]) -> None:
    now, moments = 1.7e9, list[float]()
    for pause in pauses:
        now += pause
        moments.append(now)
    allowed = verdicts(Rate(most, seconds), moments)
    taken = [moment for moment, let_through in zip(moments, allowed, strict=True) if let_through]
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            grown = (taken[last] - start) * most / seconds
            assert last - first + 1 <= most + grown + 0.001
