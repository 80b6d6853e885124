"""Vaults, items and versions in the database. Each change writes its event, in the same transaction.

Every statement asks whose a row is: there is no way to somebody else's. With a vault go its items, with an
item its versions; the one event says it for all of them.
"""

import sqlite3
import uuid
from typing import Any

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.errors import not_found, over_quota
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.demo.backend.tokens import Claims
from localful_ws.demo.backend.wire import Item, NewItem, NewVersion, Vault, Version
from localful_ws.protocol import EventName

VAULT = "id, protected_data, created_at, updated_at"
ITEM = "id, vault_id, type, created_at"
VERSION = "id, vault_id, item_id, protected_data, created_at"


def create_vault(
    connection: sqlite3.Connection, actor: Claims, data: str, settings: BackendSettings, now: float
) -> Vault:
    """Make a vault.

    Raises:
        ApiError: 409, if the user has as many as one may have.
    """
    if _count(connection, "SELECT count(*) FROM vaults WHERE user_id = ?", actor.user) >= settings.max_vaults:
        raise over_quota("vaults", settings.max_vaults)
    vault = Vault(str(uuid.uuid4()), data, now, now)
    connection.execute(
        "INSERT INTO vaults (id, user_id, protected_data, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
        (vault.id, actor.user, data, now, now),
    )
    _tell(connection, EventName.VAULT_CREATE, actor, vault.id, {"protectedData": data})
    return vault


def get_vault(connection: sqlite3.Connection, user: str, vault: str) -> Vault:
    """Get a vault.

    Raises:
        ApiError: 404.
    """
    row = connection.execute(
        f"SELECT {VAULT} FROM vaults WHERE id = ? AND user_id = ?",  # noqa: S608
        (vault, user),
    ).fetchone()
    if row is None:
        raise not_found("vault")
    return Vault(*row)


def list_vaults(connection: sqlite3.Connection, user: str, after: str, limit: int) -> list[Vault]:
    """The user's vaults whose ids come after ``after``."""
    rows = connection.execute(
        f"SELECT {VAULT} FROM vaults WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (user, after, limit),
    )
    return [Vault(*row) for row in rows]


def change_vault(connection: sqlite3.Connection, actor: Claims, vault: str, data: str, now: float) -> Vault:
    """Change a vault.

    Raises:
        ApiError: 404.
    """
    get_vault(connection, actor.user, vault)
    connection.execute(
        "UPDATE vaults SET protected_data = ?, updated_at = ? WHERE id = ?", (data, now, vault)
    )
    _tell(connection, EventName.VAULT_UPDATE, actor, vault, {"protectedData": data})
    return get_vault(connection, actor.user, vault)


def delete_vault(connection: sqlite3.Connection, actor: Claims, vault: str) -> None:
    """Delete a vault with all that is in it.

    Raises:
        ApiError: 404.
    """
    get_vault(connection, actor.user, vault)
    connection.execute("DELETE FROM vaults WHERE id = ?", (vault,))
    # The versions went with the items, and these with the vault: ON DELETE CASCADE.
    _tell(connection, EventName.VAULT_DELETE, actor, vault)


def create_item(
    connection: sqlite3.Connection, actor: Claims, wanted: NewItem, settings: BackendSettings, now: float
) -> Item:
    """Make an item.

    Raises:
        ApiError: 404, if there is no such vault; 409, if the user has as many items as one may have.
    """
    get_vault(connection, actor.user, wanted.vault_id)
    if _count(connection, "SELECT count(*) FROM items WHERE user_id = ?", actor.user) >= settings.max_items:
        raise over_quota("items", settings.max_items)
    item = Item(str(uuid.uuid4()), wanted.vault_id, wanted.type, now)
    connection.execute(
        "INSERT INTO items (id, user_id, vault_id, type, created_at) VALUES (?, ?, ?, ?, ?)",
        (item.id, actor.user, item.vault_id, item.type, now),
    )
    _tell(connection, EventName.ITEM_CREATE, actor, item.vault_id, {"id": item.id, "type": item.type})
    return item


def get_item(connection: sqlite3.Connection, user: str, item: str) -> Item:
    """Get an item.

    Raises:
        ApiError: 404.
    """
    row = connection.execute(
        f"SELECT {ITEM} FROM items WHERE id = ? AND user_id = ?",  # noqa: S608
        (item, user),
    ).fetchone()
    if row is None:
        raise not_found("item")
    return Item(*row)


def list_items(connection: sqlite3.Connection, user: str, vault: str, after: str, limit: int) -> list[Item]:
    """The items of a vault whose ids come after ``after``.

    Raises:
        ApiError: 404, if there is no such vault.
    """
    get_vault(connection, user, vault)
    rows = connection.execute(
        f"SELECT {ITEM} FROM items WHERE vault_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (vault, after, limit),
    )
    return [Item(*row) for row in rows]


def delete_item(connection: sqlite3.Connection, actor: Claims, item: str) -> None:
    """Delete an item with its versions.

    Raises:
        ApiError: 404.
    """
    vault = get_item(connection, actor.user, item).vault_id
    connection.execute("DELETE FROM items WHERE id = ?", (item,))
    _tell(connection, EventName.ITEM_DELETE, actor, vault, {"id": item})


def create_version(
    connection: sqlite3.Connection, actor: Claims, wanted: NewVersion, settings: BackendSettings, now: float
) -> Version:
    """Make a version of an item.

    The event holds no content: what is in it may be large, and a device fetches it if it wants it.

    Raises:
        ApiError: 404, if there is no such item; 409, if the user has as much as one may have.
    """
    vault = get_item(connection, actor.user, wanted.item_id).vault_id
    versions, content = connection.execute(
        "SELECT count(*), coalesce(sum(length(protected_data)), 0) FROM versions WHERE user_id = ?",
        (actor.user,),
    ).fetchone()
    if versions >= settings.max_versions:
        raise over_quota("versions", settings.max_versions)
    if content + len(wanted.protected_data) > settings.max_content:
        raise over_quota("characters of content", settings.max_content)
    version = Version(str(uuid.uuid4()), vault, wanted.item_id, wanted.protected_data, now)
    connection.execute(
        "INSERT INTO versions (id, user_id, vault_id, item_id, protected_data, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (version.id, actor.user, vault, version.item_id, version.protected_data, now),
    )
    _tell(connection, EventName.VERSION_CREATE, actor, vault, {"id": version.id, "itemId": version.item_id})
    return version


def get_version(connection: sqlite3.Connection, user: str, version: str) -> Version:
    """Get a version.

    Raises:
        ApiError: 404.
    """
    row = connection.execute(
        f"SELECT {VERSION} FROM versions WHERE id = ? AND user_id = ?",  # noqa: S608
        (version, user),
    ).fetchone()
    if row is None:
        raise not_found("version")
    return Version(*row)


def list_versions(
    connection: sqlite3.Connection, user: str, item: str, after: str, limit: int
) -> list[Version]:
    """The versions of an item whose ids come after ``after``.

    Raises:
        ApiError: 404, if there is no such item.
    """
    get_item(connection, user, item)
    rows = connection.execute(
        f"SELECT {VERSION} FROM versions WHERE item_id = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608
        (item, after, limit),
    )
    return [Version(*row) for row in rows]


def delete_version(connection: sqlite3.Connection, actor: Claims, version: str) -> None:
    """Delete a version.

    Raises:
        ApiError: 404.
    """
    found = get_version(connection, actor.user, version)
    connection.execute("DELETE FROM versions WHERE id = ?", (version,))
    _tell(
        connection,
        EventName.VERSION_DELETE,
        actor,
        found.vault_id,
        {"id": version, "itemId": found.item_id},
    )


def _count(connection: sqlite3.Connection, statement: str, user: str) -> int:
    count: int = connection.execute(statement, (user,)).fetchone()[0]
    return count


def _tell(
    connection: sqlite3.Connection, event: EventName, actor: Claims, vault: str, data: Any = None
) -> None:
    outbox.add_event(connection, event, user=actor.user, group=actor.group, vault=vault, data=data)
