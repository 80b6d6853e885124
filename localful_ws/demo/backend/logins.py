"""Logins: each is a token group, with one refresh token at a time that is good."""

import sqlite3
import uuid

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.errors import unauthorized
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.demo.backend.tokens import ACCESS, REFRESH, Claims, sign_token
from localful_ws.demo.backend.wire import Tokens


def begin_login(connection: sqlite3.Connection, user: str, settings: BackendSettings, now: float) -> Claims:
    """Begin a login: a new token group and its first refresh token.

    A user who has ``max_logins`` already loses the one that was not refreshed for longest.
    """
    connection.execute("DELETE FROM logins WHERE user_id = ? AND expires_at <= ?", (user, now))
    surplus = connection.execute(
        "SELECT gid FROM logins WHERE user_id = ? ORDER BY rotated_at DESC LIMIT -1 OFFSET ?",
        (user, settings.max_logins - 1),
    ).fetchall()
    for row in surplus:
        end_login(connection, user, row["gid"])
    claims = Claims(user, str(uuid.uuid4()), str(uuid.uuid4()))
    connection.execute(
        "INSERT INTO logins (gid, user_id, refresh_id, rotated_at, expires_at) VALUES (?, ?, ?, ?, ?)",
        (claims.group, user, claims.token_id, now, now + settings.refresh_seconds),
    )
    return claims


def refresh_login(
    connection: sqlite3.Connection, claims: Claims, settings: BackendSettings, now: float
) -> Claims | None:
    """Exchange a refresh token for the next one. The group stays: it is the same login.

    A refresh token is good once. One that comes again was stolen from the device, or by the device from
    whoever stole it first: the login ends. The token before the present one is taken for a little longer,
    since its answer may not have arrived.

    Returns:
        The claims of the next refresh token, or None if the login was ended for a token that came again. (To
        raise would undo that.)

    Raises:
        ApiError: 401, if the login is over.
    """
    login = connection.execute("SELECT * FROM logins WHERE gid = ?", (claims.group,)).fetchone()
    if login is None:
        raise unauthorized("This login has ended; log in again.")
    is_late_copy = (
        claims.token_id == login["previous_id"] and now < login["rotated_at"] + settings.refresh_grace_seconds
    )
    if claims.token_id != login["refresh_id"] and not is_late_copy:
        end_login(connection, claims.user, claims.group)
        return None
    following = Claims(claims.user, claims.group, str(uuid.uuid4()))
    # Of a late copy the grace is not prolonged: rotated_at stays.
    connection.execute(
        "UPDATE logins SET refresh_id = ?, previous_id = ?, rotated_at = ?, expires_at = ? WHERE gid = ?",
        (
            following.token_id,
            claims.token_id,
            login["rotated_at"] if is_late_copy else now,
            now + settings.refresh_seconds,
            claims.group,
        ),
    )
    return following


def end_login(connection: sqlite3.Connection, user: str, group: str) -> None:
    """Log out: its tokens are good for nothing from now on, here and at the WebSocket server."""
    ended = connection.execute("DELETE FROM logins WHERE gid = ? AND user_id = ?", (group, user))
    if ended.rowcount:
        outbox.add_disconnect(connection, user, group)


def end_other_logins(connection: sqlite3.Connection, user: str, group: str) -> None:
    """Log a user out everywhere but here."""
    others = connection.execute(
        "SELECT gid FROM logins WHERE user_id = ? AND gid <> ?", (user, group)
    ).fetchall()
    for row in others:
        end_login(connection, user, row["gid"])


def require_login(connection: sqlite3.Connection, claims: Claims) -> None:
    """Refuse an access token whose login has ended, though the token has not expired.

    Raises:
        ApiError: 401.
    """
    login = connection.execute(
        "SELECT 1 FROM logins WHERE gid = ? AND user_id = ?", (claims.group, claims.user)
    ).fetchone()
    if login is None:
        raise unauthorized("This login has ended; log in again.")


def sign_tokens(claims: Claims, settings: BackendSettings, now: float) -> Tokens:
    """Make the tokens of a login, after `begin_login` or `refresh_login`."""
    access = Claims(claims.user, claims.group)
    return Tokens(
        access_token=sign_token(ACCESS, access, settings.jwt_secret, now, settings.access_seconds),
        access_expires_at=now + settings.access_seconds,
        refresh_token=sign_token(REFRESH, claims, settings.jwt_secret, now, settings.refresh_seconds),
        refresh_expires_at=now + settings.refresh_seconds,
    )
