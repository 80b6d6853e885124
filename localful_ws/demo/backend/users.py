"""Users in the database. Each change writes its event into the outbox, in the same transaction."""

import sqlite3
import uuid

from attrs import frozen

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.errors import ApiError, not_found, wrong_credentials
from localful_ws.demo.backend.logins import end_other_logins
from localful_ws.demo.backend.tokens import Claims
from localful_ws.demo.backend.wire import User
from localful_ws.protocol import EventName


@frozen
class Account:
    """A user, with what only the server may know.

    Attributes:
        user: The user.
        password_hash: See `localful_ws.demo.backend.passwords`.
    """

    user: User
    password_hash: str


def add_user(
    connection: sqlite3.Connection, email: str, display_name: str, password_hash: str, now: float
) -> str:
    """Add a user; returns the id."""
    user = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO users (id, email, display_name, password_hash, created_at) VALUES (?, ?, ?, ?, ?)",
        (user, normal_email(email), display_name, password_hash, now),
    )
    return user


def find_by_email(connection: sqlite3.Connection, email: str) -> Account | None:
    """Find who logs in with this address."""
    row = connection.execute("SELECT * FROM users WHERE email = ?", (normal_email(email),)).fetchone()
    return None if row is None else _account(row)


def get_account(connection: sqlite3.Connection, user: str) -> Account:
    """Get a user.

    Raises:
        ApiError: 404.
    """
    row = connection.execute("SELECT * FROM users WHERE id = ?", (user,)).fetchone()
    if row is None:
        raise not_found("user")
    return _account(row)


def change_profile(connection: sqlite3.Connection, actor: Claims, display_name: str) -> User:
    """Change the profile."""
    connection.execute("UPDATE users SET display_name = ? WHERE id = ?", (display_name, actor.user))
    _tell(connection, EventName.USER_UPDATE, actor, {"displayName": display_name})
    return get_account(connection, actor.user).user


def change_email(connection: sqlite3.Connection, actor: Claims, checked: Account, email: str) -> User:
    """Change the e-mail address.

    Args:
        connection: In a transaction.
        actor: Who does it.
        checked: The account as it was when the password was checked.
        email: The new address.

    Raises:
        ApiError: 409, if it is somebody else's; 403, if the password was changed since it was checked.
    """
    _still(connection, checked)
    other = find_by_email(connection, email)
    if other is not None and other.user.id != actor.user:
        raise ApiError(409, "email-taken", "This e-mail address is in use.", {"key": "email"})
    address = normal_email(email)
    connection.execute("UPDATE users SET email = ? WHERE id = ?", (address, actor.user))
    _tell(connection, EventName.USER_EMAIL_CHANGE, actor, {"email": address})
    return get_account(connection, actor.user).user


def change_password(
    connection: sqlite3.Connection, actor: Claims, checked: Account, password_hash: str
) -> None:
    """Change the password, and log out all other devices. They are told before their connections close.

    The other logins are disconnected one by one rather than the user as a whole: this device stays logged in.

    Raises:
        ApiError: 403, if it was changed since it was checked.
    """
    _still(connection, checked)
    connection.execute("UPDATE users SET password_hash = ? WHERE id = ?", (password_hash, actor.user))
    _tell(connection, EventName.USER_PASSWORD_CHANGE, actor)
    end_other_logins(connection, actor.user, actor.group)


def delete_user(connection: sqlite3.Connection, actor: Claims, checked: Account) -> None:
    """Delete a user, and with them all that is theirs. ``user-delete`` closes their connections.

    Raises:
        ApiError: 403, if the password was changed since it was checked.
    """
    _still(connection, checked)
    connection.execute("DELETE FROM users WHERE id = ?", (actor.user,))
    _tell(connection, EventName.USER_DELETE, actor)


def normal_email(email: str) -> str:
    """An e-mail address as it is stored and compared."""
    return email.strip().lower()


def _still(connection: sqlite3.Connection, checked: Account) -> None:
    if get_account(connection, checked.user.id).password_hash != checked.password_hash:
        raise wrong_credentials()


def _tell(
    connection: sqlite3.Connection, event: EventName, actor: Claims, data: dict[str, str] | None = None
) -> None:
    outbox.add_event(connection, event, user=actor.user, group=actor.group, data=data)


def _account(row: sqlite3.Row) -> Account:
    user = User(row["id"], row["email"], row["display_name"], row["created_at"])
    return Account(user, row["password_hash"])
