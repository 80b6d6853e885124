"""Connections in every state, and how to get them there."""

import json

from localful_ws.protocol import (
    Action,
    Authenticated,
    Close,
    CloseCode,
    Connection,
    Error,
    Limits,
    Rejection,
    Send,
    Session,
)

NOW = 1000.0
CURSOR = "a.1"
ALICE = Session("alice", "phone", NOW + 3600)
LIMITS = Limits(max_vaults=10)
BAD_TOKEN = Rejection(CloseCode.UNAUTHORIZED, "The token does not hold.")
REVOKED = Rejection(CloseCode.FORBIDDEN, "The session was revoked.")
LATER = Rejection(CloseCode.TRY_AGAIN_LATER, "Not just now.")
CROWDED = Rejection(CloseCode.TOO_MANY, "Too many connections.")


def text(**keys: object) -> str:
    return json.dumps(keys)


def authenticate(**keys: object) -> str:
    return text(event="authenticate", token="t", **keys)


def subscribe(*vaults: str, **keys: object) -> str:
    return text(event="subscribe", vaults=vaults, **keys)


def new() -> Connection:
    return Connection(LIMITS, NOW)


def verifying(**keys: object) -> Connection:
    connection = new()
    connection.receive_text(authenticate(id="a", **keys), NOW)
    return connection


def authenticated(*vaults: str, session: Session = ALICE) -> Connection:
    connection = new()
    connection.accept_session(session, NOW, CURSOR)
    connection.receive_text(subscribe(*vaults), NOW)
    return connection


def renewing(*vaults: str, **keys: object) -> Connection:
    connection = authenticated(*vaults)
    connection.receive_text(authenticate(id="r", **keys), NOW)
    return connection


def closed() -> Connection:
    connection = authenticated("v")
    connection.close(CloseCode.SERVER_SHUTDOWN)
    return connection


def greeting(
    session: Session,
    *vaults: str,
    cursor: str = CURSOR,
    message_id: str | None = None,
    resumed: bool | None = None,
) -> Send:
    return Send(
        Authenticated(session.user, session.group, session.expires_at, vaults, cursor, resumed, message_id)
    )


def refusal(code: CloseCode, message: str, message_id: str | None = None) -> tuple[Action, ...]:
    return Send(Error(code.reason, message, message_id)), Close(code)
