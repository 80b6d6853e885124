"""When a client comes back."""

import pytest

from localful_ws.client.reconnect import after_close, after_refusal, pause_before
from localful_ws.protocol import CloseCode, Reconnect


@pytest.mark.parametrize("code", CloseCode)
def test_a_known_close_code_says_it(code: CloseCode) -> None:
    assert after_close(int(code)) is code.reconnect


@pytest.mark.parametrize(
    ("code", "reconnect"),
    [
        (1005, Reconnect.YES),
        (1006, Reconnect.YES),
        (1003, Reconnect.LATER),
        (1008, Reconnect.LATER),
        (1012, Reconnect.LATER),
        (3000, Reconnect.LATER),
        (4499, Reconnect.LATER),
    ],
)
def test_an_unknown_one_does_not_keep_a_client_away(code: int, reconnect: Reconnect) -> None:
    assert after_close(code) is reconnect


@pytest.mark.parametrize(
    ("status", "reconnect"),
    [
        (400, Reconnect.NO),
        (401, Reconnect.NO),
        (403, Reconnect.NO),
        (404, Reconnect.NO),
        (301, Reconnect.NO),
        (408, Reconnect.LATER),
        (429, Reconnect.LATER),
        (500, Reconnect.LATER),
        (503, Reconnect.LATER),
    ],
)
def test_a_refused_handshake_says_it_too(status: int, reconnect: Reconnect) -> None:
    assert after_refusal(status) is reconnect


@pytest.mark.parametrize(
    ("reconnect", "attempt", "shortest", "longest"),
    [
        (Reconnect.YES, 0, 0.5, 1.0),
        (Reconnect.YES, 1, 1.0, 2.0),
        (Reconnect.YES, 4, 8.0, 16.0),
        (Reconnect.YES, 5, 15.0, 30.0),
        (Reconnect.YES, 100_000, 15.0, 30.0),
        (Reconnect.WITH_NEW_TOKEN, 0, 0.5, 1.0),
        (Reconnect.LATER, 0, 2.5, 5.0),
        (Reconnect.LATER, 100, 60.0, 120.0),
        (Reconnect.AFTER_RANDOM_DELAY, 0, 0.0, 10.0),
        (Reconnect.AFTER_RANDOM_DELAY, 100, 0.0, 30.0),
    ],
)
def test_pauses_double_up_to_a_limit_and_leave_room_for_chance(
    reconnect: Reconnect, attempt: int, shortest: float, longest: float
) -> None:
    assert pause_before(reconnect, attempt, 0.0) == shortest
    assert pause_before(reconnect, attempt, 1.0) == longest
    assert pause_before(reconnect, attempt, 0.5) == (shortest + longest) / 2


@pytest.mark.parametrize("attempt", [0, 1, 50])
def test_there_is_no_pause_where_there_is_no_coming_back(attempt: int) -> None:
    assert pause_before(Reconnect.NO, attempt, 0.5) is None
