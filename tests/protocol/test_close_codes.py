"""Every code the protocol closes with."""

import pytest

from localful_ws.protocol import CloseCode, Reconnect

CODES = {
    1000: ("normal", Reconnect.NO),
    1001: ("server-shutdown", Reconnect.AFTER_RANDOM_DELAY),
    1002: ("protocol-error", Reconnect.NO),
    1007: ("invalid-text", Reconnect.NO),
    1009: ("message-too-big", Reconnect.NO),
    1011: ("internal-error", Reconnect.LATER),
    1013: ("try-again-later", Reconnect.LATER),
    4400: ("bad-message", Reconnect.NO),
    4401: ("unauthorized", Reconnect.WITH_NEW_TOKEN),
    4403: ("forbidden", Reconnect.NO),
    4408: ("authentication-timeout", Reconnect.YES),
    4410: ("token-expired", Reconnect.WITH_NEW_TOKEN),
    4412: ("slow-consumer", Reconnect.YES),
    4413: ("missed-events", Reconnect.YES),
    4429: ("too-many", Reconnect.LATER),
}


def test_codes() -> None:
    assert {int(code): (code.reason, code.reconnect) for code in CloseCode} == CODES


@pytest.mark.parametrize("number", CODES)
def test_is_found_by_its_number(number: int) -> None:
    code = CloseCode(number)  # type: ignore[call-arg]
    assert code == number
    assert f"{code:d}" == str(number)


def test_numbers_and_reasons_are_unique() -> None:
    assert len({code.value for code in CloseCode}) == len({code.reason for code in CloseCode}) == len(CODES)
