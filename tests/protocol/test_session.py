"""What a verified token says."""

import pytest

from localful_ws.protocol import Session


@pytest.mark.parametrize(
    ("issued_at", "before"),
    [(None, True), (0.0, True), (99.999, True), (100.0, False), (100.001, False), (-1e9, True)],
)
def test_whether_it_was_issued_before_a_moment(issued_at: float | None, *, before: bool) -> None:
    assert Session("u", "g", 1000.0, issued_at).is_issued_before(100.0) is before
