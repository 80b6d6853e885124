"""The outbox: what the WebSocket server is to be told, written in the transaction of the change itself.

So it is told of a change if, and only if, the change was committed, whatever stops in between. Every event
has an ``id`` that is made here once and stored with it: the server takes an event that is published again for
the same one. The id is a UUID rather than the number of the row: a database that is made anew, or restored,
uses its numbers again, and an event under an id that the server still remembers would be taken for one it has
had.
"""

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import frozen

from localful_ws.protocol import EventName

EVENTS = "/v1/events"
DISCONNECT = "/v1/disconnect"


@frozen
class Entry:
    """A row of the outbox.

    Attributes:
        position: Its place in the order.
        id: The event's, or one made for a disconnect.
        path: Where to post it.
        body: The event, or the disconnect, as JSON.
    """

    position: int
    id: str
    path: str
    body: str


def add_event(
    connection: sqlite3.Connection,
    event: EventName,
    *,
    user: str,
    group: str,
    vault: str | None = None,
    data: Any = None,
) -> None:
    """Have an event published if the present transaction is committed.

    Args:
        connection: In a transaction.
        event: What happened.
        user: Whose devices are to hear of it.
        group: The token group of the access token that made the change: its devices are not told.
        vault: Where it happened; None for events of the user.
        data: What the devices should know.
    """
    event_id = str(uuid.uuid4())
    body = {"event": event.value, "user": user, "group": group, "data": data, "id": event_id}
    if vault is not None:
        body["vault"] = vault
    _add(connection, event_id, EVENTS, body)


def add_disconnect(connection: sqlite3.Connection, user: str, group: str) -> None:
    """Have a login's connections closed and its tokens refused, if the transaction is committed.

    The server refuses them for ``revocation-seconds``, a day: longer than an access token lives. The entry
    needs no time: no login that begins later has this group.

    Args:
        connection: In a transaction.
        user: Whose login it is. The group alone would do here, where it is a UUID, and nowhere else.
        group: Its token group.
    """
    _add(connection, str(uuid.uuid4()), DISCONNECT, {"user": user, "group": group})


def first_entries(connection: sqlite3.Connection, limit: int) -> list[Entry]:
    """The entries that are to go next."""
    rows = connection.execute(
        "SELECT position, id, path, body FROM outbox ORDER BY position LIMIT ?", (limit,)
    ).fetchall()
    return [Entry(*row) for row in rows]


def remove(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Forget entries that were accepted."""
    connection.executemany("DELETE FROM outbox WHERE position = ?", [(entry.position,) for entry in entries])


def set_aside(connection: sqlite3.Connection, entry: Entry, reason: str) -> None:
    """Keep an entry that was refused for a person to look at. It is still to be removed."""
    connection.execute(
        "INSERT INTO outbox_refused SELECT position, id, path, body, ? FROM outbox WHERE position = ?",
        (reason, entry.position),
    )


def _add(connection: sqlite3.Connection, entry_id: str, path: str, body: dict[str, Any]) -> None:
    connection.execute(
        "INSERT INTO outbox (id, path, body) VALUES (?, ?, ?)",
        (entry_id, path, msgspec.json.encode(body).decode()),
    )
