"""The token bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localful_ws.protocol import Rate, RateLimit


@pytest.mark.parametrize(
    ("rate", "moments", "allowed"),
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
def test_allows(rate: Rate, moments: list[float], allowed: list[bool]) -> None:
    limit = RateLimit()
    assert [limit.allow(rate, moment) for moment in moments] == allowed


@given(
    st.integers(1, 500),
    st.sampled_from([1.0, 3.0, 7.0, 10.0, 60.0]),
    st.floats(1.6e9, 2.5e9),
)
def test_the_whole_allowance_may_come_at_once_at_unix_times(
    messages: int, seconds: float, now: float
) -> None:
    rate, limit = Rate(messages, seconds), RateLimit()
    assert sum(limit.allow(rate, now) for _ in range(2 * messages)) == messages


@given(
    st.integers(1, 20),
    st.sampled_from([1.0, 10.0]),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=100),
)
def test_never_more_than_the_rate_in_any_stretch(messages: int, seconds: float, pauses: list[float]) -> None:
    rate, limit = Rate(messages, seconds), RateLimit()
    now, taken = 1.7e9, []
    for pause in pauses:
        now += pause
        if limit.allow(rate, now):
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            grown = (taken[last] - start) * messages / seconds
            assert last - first + 1 <= messages + grown + 0.001
