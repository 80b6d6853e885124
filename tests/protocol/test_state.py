"""The transition table."""

import pytest

from localful_ws.protocol import (
    TRANSITIONS,
    Happening,
    LocalProtocolError,
    State,
    next_state,
    state_diagram,
)

A, B, C = State.AWAITING_AUTH, State.AUTHENTICATED, State.CLOSED

# What each thing leads to from awaiting-auth and from authenticated; None where it can't happen.
EXPECTED = {
    Happening.SESSION_ACCEPTED: (B, B),
    Happening.SESSION_REFUSED: (C, None),
    Happening.SUBSCRIBED: (None, B),
    Happening.REQUEST_REFUSED: (None, B),
    Happening.MESSAGE_REFUSED: (C, C),
    Happening.FORBIDDEN: (None, C),
    Happening.AUTHENTICATION_TIMED_OUT: (C, None),
    Happening.TOKEN_EXPIRED: (None, C),
    Happening.USER_DELETED: (None, C),
    Happening.CLOSED_BY_SERVER: (C, C),
    Happening.CONNECTION_LOST: (C, C),
}


def test_the_expectation_is_complete() -> None:
    assert set(EXPECTED) == set(Happening)
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("happening", Happening)
@pytest.mark.parametrize("state", State)
def test_next_state(state: State, happening: Happening) -> None:
    target = dict(zip((A, B), EXPECTED[happening], strict=True)).get(state)
    if target is None:
        with pytest.raises(
            LocalProtocolError, match=f"^{happening.name} cannot happen in state {state.value}.$"
        ):
            next_state(state, happening)
    else:
        assert next_state(state, happening) is target


def test_the_diagram_shows_every_row_once_and_no_other() -> None:
    lines = state_diagram().splitlines()
    names = {state: state.name.lower() for state in State}
    assert lines[0] == "stateDiagram-v2"
    assert sorted(lines[1:]) == sorted(
        [
            *(f'    state "{state.value}" as {names[state]}' for state in State),
            "    [*] --> awaiting_auth",
            *(
                f"    {names[state]} --> {names[target]}: {happening.value}"
                for happening, row in EXPECTED.items()
                for state, target in zip((A, B), row, strict=True)
                if target is not None
            ),
            "    closed --> [*]",
        ]
    )
