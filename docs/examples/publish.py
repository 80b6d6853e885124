"""An outbox in Python with SQLite and httpx.

python publish.py app.db                     publish what is in the outbox, until Ctrl-C
python publish.py app.db ada laptop v1 i1    change something, as a handler of the HTTP API would
"""

import json
import os
import random
import sqlite3
import sys
import time
import uuid
from contextlib import suppress

import httpx

URL = os.environ.get("PUBLISH_URL", "http://127.0.0.1:42103")
KEY = os.environ.get("LOCALFUL_WS_PUBLISHER_KEY", "")
BATCH = 500  # events in a request
LONGEST_PAUSE = 30.0  # seconds between two attempts

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


def set_aside(database: sqlite3.Connection, position: int, reason: str) -> None:
    """Keep an event that will never be accepted for a person to look at, and let the others pass."""
    with database:
        database.execute(
            "INSERT INTO outbox_refused SELECT body, ? FROM outbox WHERE position = ?", (reason, position)
        )
        database.execute("DELETE FROM outbox WHERE position = ?", (position,))


def refused_event(response: httpx.Response, events: int) -> int | None:
    """Which event of a request was refused, if that can be known."""
    try:
        index = response.json()["context"]["index"]
    except (ValueError, LookupError, TypeError):  # about the request as a whole, or a proxy's page
        return 0 if events == 1 else None
    return int(index)


def retry_after(response: httpx.Response) -> float:
    """How many seconds the server wants to be left alone."""
    seconds = response.headers.get("retry-after", "")
    return float(seconds) if seconds.isdecimal() else 0.0


def publish(database: sqlite3.Connection, api: httpx.Client) -> None:
    """Publish the outbox in order, for ever. Only one process may do so."""
    limit, failures = BATCH, 0
    while True:
        rows = database.execute(
            "SELECT position, body FROM outbox ORDER BY position LIMIT ?", (limit,)
        ).fetchall()
        if not rows:
            time.sleep(0.1)
            continue
        wanted = 0.0
        try:
            response = api.post("/v1/events", content=f'{{"events": [{",".join(body for _, body in rows)}]}}')
        except httpx.TransportError as error:
            reason = type(error).__name__
        else:
            if response.status_code == 202:
                with database:
                    database.execute("DELETE FROM outbox WHERE position <= ?", (rows[-1][0],))
                limit, failures = BATCH, 0
                continue
            reason = f"HTTP {response.status_code}: {response.text}"
            if response.status_code in (400, 413, 422):  # the same again would be refused again
                index = refused_event(response, len(rows))
                if index is None:  # halves will tell
                    limit = len(rows) // 2
                else:
                    print(f"set aside: {reason}", file=sys.stderr, flush=True)
                    set_aside(database, rows[index][0], reason)
                continue
            wanted = retry_after(response)
        # Not accepted, or nobody knows. The same events again, with the ids that they have.
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** min(failures, 20)) * random.uniform(0.5, 1)
        failures += 1
        print(f"trying again: {reason}", file=sys.stderr, flush=True)
        time.sleep(max(pause, min(wanted, LONGEST_PAUSE)))


if __name__ == "__main__":
    database = open_database(sys.argv[1])
    if sys.argv[2:]:
        create_item(database, *sys.argv[2:6])
    else:
        headers = {"Authorization": f"Bearer {KEY}"}
        with suppress(KeyboardInterrupt), httpx.Client(base_url=URL, headers=headers, timeout=10) as api:
            publish(database, api)
