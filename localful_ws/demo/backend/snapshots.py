"""Snapshots: all content at one moment, for a device that starts, or that missed too much.

How a device puts a snapshot and events together, so that nothing is missing:

1. It connects to the WebSocket server, authenticates with its vaults, and notes the ``cursor`` of the answer.
2. From then on it keeps the events that arrive.
3. It fetches the snapshot, and replaces what it has with it.
4. It applies the events it kept, and those that come.
5. Then it stores the cursor: that of the last event, or the noted one if there was none.

An event is published after its change was committed. So every change whose event came before the noted cursor
is in the snapshot, which was read later; all other events arrive. A change may be in both: to create what is
there, and to delete what isn't, must do no harm. What an event is about may be gone by the time a device
fetches it: then a 404 says that its deletion is on the way.

A snapshot is one answer, read in one transaction. It is not in pages: what a user may have is bounded
(``max_vaults``, ``max_items``, ``max_versions``, ``max_content``).
"""

import sqlite3

from localful_ws.demo.backend.content import ITEMS, VAULTS, VERSIONS
from localful_ws.demo.backend.wire import Snapshot, Vault


def snapshot_of_user(connection: sqlite3.Connection, user: str) -> Snapshot:
    """All vaults of a user with all that is in them."""
    return _snapshot(connection, "user_id", user, VAULTS.all(connection, "user_id", user))


def snapshot_of_vault(connection: sqlite3.Connection, user: str, vault: str) -> Snapshot:
    """One vault with all that is in it.

    Raises:
        ApiError: 404.
    """
    return _snapshot(connection, "vault_id", vault, [VAULTS.get(connection, user, vault)])


def _snapshot(connection: sqlite3.Connection, column: str, value: str, vaults: list[Vault]) -> Snapshot:
    return Snapshot(vaults, ITEMS.all(connection, column, value), VERSIONS.all(connection, column, value))
