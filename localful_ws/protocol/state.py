"""The states of a connection and the one table of what may happen in each.

It is in spec/protocol.md, "Connection life".

What is not in the table cannot happen: looking it up raises `LocalProtocolError`. The state diagram in the
specification is generated from the table.
"""

from enum import Enum

from localful_ws.protocol.errors import LocalProtocolError


class State(Enum):
    """Where a connection is in its life."""

    AWAITING_AUTH = "awaiting-auth"
    AUTHENTICATED = "authenticated"
    CLOSED = "closed"


class Happening(Enum):
    """What can happen to a connection, in the words of the state diagram."""

    SESSION_ACCEPTED = "the token holds"
    SESSION_REFUSED = "the token is refused"
    SUBSCRIBED = "subscribe"
    REQUEST_REFUSED = "a subscription or renewal is refused"
    MESSAGE_REFUSED = "a message is refused"
    FORBIDDEN = "the session is revoked or another user's"
    AUTHENTICATION_TIMED_OUT = "3 s without authenticate"
    TOKEN_EXPIRED = "the token expires"
    USER_DELETED = "user-delete is delivered"
    CLOSED_BY_SERVER = "the server closes"
    CONNECTION_LOST = "the device closes or is lost"


TRANSITIONS: dict[State, dict[Happening, State]] = {
    State.AWAITING_AUTH: {
        Happening.SESSION_ACCEPTED: State.AUTHENTICATED,
        Happening.SESSION_REFUSED: State.CLOSED,
        Happening.MESSAGE_REFUSED: State.CLOSED,
        Happening.AUTHENTICATION_TIMED_OUT: State.CLOSED,
        Happening.CLOSED_BY_SERVER: State.CLOSED,
        Happening.CONNECTION_LOST: State.CLOSED,
    },
    State.AUTHENTICATED: {
        Happening.SESSION_ACCEPTED: State.AUTHENTICATED,
        Happening.SUBSCRIBED: State.AUTHENTICATED,
        Happening.REQUEST_REFUSED: State.AUTHENTICATED,
        Happening.MESSAGE_REFUSED: State.CLOSED,
        Happening.FORBIDDEN: State.CLOSED,
        Happening.TOKEN_EXPIRED: State.CLOSED,
        Happening.USER_DELETED: State.CLOSED,
        Happening.CLOSED_BY_SERVER: State.CLOSED,
        Happening.CONNECTION_LOST: State.CLOSED,
    },
    State.CLOSED: {},
}


def next_state(state: State, happening: Happening) -> State:
    """Look up where ``happening`` leads from ``state``.

    Raises:
        LocalProtocolError: If it cannot happen in that state.
    """
    try:
        return TRANSITIONS[state][happening]
    except KeyError:
        raise LocalProtocolError(f"{happening.name} cannot happen in state {state.value}.") from None


def state_diagram() -> str:
    """Draw the table as a Mermaid state diagram."""
    names = {state: state.name.lower() for state in State}
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {names[state]}' for state in State]
    lines.append(f"    [*] --> {names[State.AWAITING_AUTH]}")
    for state, row in TRANSITIONS.items():
        for happening, target in row.items():
            lines.append(f"    {names[state]} --> {names[target]}: {happening.value}")
    lines.append(f"    {names[State.CLOSED]} --> [*]")
    return "\n".join(lines)
