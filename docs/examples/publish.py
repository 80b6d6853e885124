"""An outbox in Python with SQLite.

python publish.py app.db                     publish what is in the outbox, until Ctrl-C
python publish.py app.db ada laptop v1 i1    change something, as a handler of the HTTP API would
"""

import asyncio
import json
import os
import sqlite3
import sys
import uuid
from contextlib import suppress

from localful_ws.publisher import EventRefusedError, open_publisher

URL = os.environ.get("PUBLISH_URL", "http://127.0.0.1:42103")
KEY = os.environ.get("LOCALFUL_WS_PUBLISHER_KEY", "")
BATCH = 500  # rows at once

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, vault TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_refused (body TEXT NOT NULL, reason TEXT NOT NULL);
"""


def open_database(path: str) -> sqlite3.Connection:
    """Open the database, and make its tables if there are none."""
    database = sqlite3.connect(path, timeout=10)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(SCHEMA)
    return database


def create_item(database: sqlite3.Connection, user: str, group: str, vault: str, item: str) -> None:
    """The change and its event, in one transaction: both happen or neither does."""
    event = {
        "event": "item-create",
        "user": user,
        "group": group,  # the `gid` of the token that came with the request
        "vault": vault,
        "data": {"id": item},
        "id": str(uuid.uuid4()),  # made once, stored with the event
    }
    with database:
        database.execute("INSERT INTO items (id, vault) VALUES (?, ?)", (item, vault))
        database.execute("INSERT INTO outbox (body) VALUES (?)", (json.dumps(event),))


async def publish(database: sqlite3.Connection) -> None:
    """Publish the outbox in order, for ever. Only one process may do so."""
    refused: dict[str, EventRefusedError] = {}
    async with open_publisher(
        URL,
        KEY,
        on_refused=lambda event, error: refused.update({event["id"]: error}),
        on_trouble=lambda reason: print(f"trying again: {reason}", file=sys.stderr, flush=True),
        close_timeout=0,  # what is left is still in the outbox
    ) as publisher:
        while True:
            rows = database.execute(
                "SELECT position, body FROM outbox ORDER BY position LIMIT ?", (BATCH,)
            ).fetchall()
            positions = {publisher.publish(json.loads(body)): position for position, body in rows}
            await publisher.flush()
            # A 503 that is handed back is of a `user-delete` for which the server has no room at present.
            misled = [error for error in refused.values() if error.status not in (400, 413, 422, 503)]
            if misled:
                # No event is to blame, but an address or a proxy: all of it again, until that is mended.
                print(f"trying again: {misled[0]}", file=sys.stderr, flush=True)
            elif rows:
                with database:
                    for event_id, error in refused.items():
                        set_aside(database, positions[event_id], str(error))
                    database.execute("DELETE FROM outbox WHERE position <= ?", (rows[-1][0],))
            refused.clear()
            await asyncio.sleep(5 if misled else 0 if rows else 0.1)


def set_aside(database: sqlite3.Connection, position: int, reason: str) -> None:
    """Keep an event that was refused for a person to look at."""
    print(f"set aside: {reason}", file=sys.stderr, flush=True)
    database.execute(
        "INSERT INTO outbox_refused SELECT body, ? FROM outbox WHERE position = ?", (reason, position)
    )


if __name__ == "__main__":
    database = open_database(sys.argv[1])
    if sys.argv[2:]:
        create_item(database, *sys.argv[2:6])
    else:
        with suppress(KeyboardInterrupt):
            asyncio.run(publish(database))
