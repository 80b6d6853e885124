"""Vaults, items and versions in the database. Each change writes its event, in the same transaction.

Every statement asks whose a row is: there is no way to somebody else's. With a vault go its items, with an
item its versions; the one event says it for all of them.
"""

import sqlite3
import uuid
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen

from localful_ws.demo.backend import outbox
from localful_ws.demo.backend.errors import not_found, over_quota
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.demo.backend.tokens import Claims
from localful_ws.demo.backend.wire import Item, NewItem, NewVersion, Vault, Version
from localful_ws.protocol import EventName

R = TypeVar("R", Vault, Item, Version)


@frozen
class Table(Generic[R]):
    """How rows of one kind are read. Names only come from this module; what is asked for is a parameter.

    Attributes:
        name: Its name in the database.
        word: What a row is called.
        columns: What makes a resource, in its order.
        make: The resource.
    """

    name: str
    word: str
    columns: str
    make: Callable[..., R]

    def get(self, connection: sqlite3.Connection, user: str, row_id: str) -> R:
        """Get one of the user's.

        Raises:
            ApiError: 404.
        """
        found = self._select(connection, "id = ? AND user_id = ?", row_id, user)
        if not found:
            raise not_found(self.word)
        return found[0]

    def page(
        self, connection: sqlite3.Connection, column: str, value: str, after: str, limit: int
    ) -> list[R]:
        """Those with a value in a column whose ids come after ``after``."""
        return self._select(connection, f"{column} = ? AND id > ? ORDER BY id LIMIT ?", value, after, limit)

    def all(self, connection: sqlite3.Connection, column: str, value: str) -> list[R]:
        """All with a value in a column, in the order in which they were made."""
        return self._select(connection, f"{column} = ? ORDER BY created_at, id", value)

    def _select(self, connection: sqlite3.Connection, where: str, *values: str | int) -> list[R]:
        rows = connection.execute(f"SELECT {self.columns} FROM {self.name} WHERE {where}", values)  # noqa: S608
        return [self.make(*row) for row in rows]


VAULTS = Table("vaults", "vault", "id, protected_data, created_at, updated_at", Vault)
ITEMS = Table("items", "item", "id, vault_id, type, created_at", Item)
VERSIONS = Table("versions", "version", "id, vault_id, item_id, protected_data, created_at", Version)


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


def change_vault(connection: sqlite3.Connection, actor: Claims, vault: str, data: str, now: float) -> Vault:
    """Change a vault.

    Raises:
        ApiError: 404.
    """
    VAULTS.get(connection, actor.user, vault)
    connection.execute(
        "UPDATE vaults SET protected_data = ?, updated_at = ? WHERE id = ?", (data, now, vault)
    )
    _tell(connection, EventName.VAULT_UPDATE, actor, vault, {"protectedData": data})
    return VAULTS.get(connection, actor.user, vault)


def delete_vault(connection: sqlite3.Connection, actor: Claims, vault: str) -> None:
    """Delete a vault with all that is in it.

    Raises:
        ApiError: 404.
    """
    VAULTS.get(connection, actor.user, vault)
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
    VAULTS.get(connection, actor.user, wanted.vault_id)
    if _count(connection, "SELECT count(*) FROM items WHERE user_id = ?", actor.user) >= settings.max_items:
        raise over_quota("items", settings.max_items)
    item = Item(str(uuid.uuid4()), wanted.vault_id, wanted.type, now)
    connection.execute(
        "INSERT INTO items (id, user_id, vault_id, type, created_at) VALUES (?, ?, ?, ?, ?)",
        (item.id, actor.user, item.vault_id, item.type, now),
    )
    _tell(connection, EventName.ITEM_CREATE, actor, item.vault_id, {"id": item.id, "type": item.type})
    return item


def list_items(connection: sqlite3.Connection, user: str, vault: str, after: str, limit: int) -> list[Item]:
    """The items of a vault whose ids come after ``after``.

    Raises:
        ApiError: 404, if there is no such vault.
    """
    VAULTS.get(connection, user, vault)
    return ITEMS.page(connection, "vault_id", vault, after, limit)


def delete_item(connection: sqlite3.Connection, actor: Claims, item: str) -> None:
    """Delete an item with its versions.

    Raises:
        ApiError: 404.
    """
    vault = ITEMS.get(connection, actor.user, item).vault_id
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
    vault = ITEMS.get(connection, actor.user, wanted.item_id).vault_id
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


def list_versions(
    connection: sqlite3.Connection, user: str, item: str, after: str, limit: int
) -> list[Version]:
    """The versions of an item whose ids come after ``after``.

    Raises:
        ApiError: 404, if there is no such item.
    """
    ITEMS.get(connection, user, item)
    return VERSIONS.page(connection, "item_id", item, after, limit)


def delete_version(connection: sqlite3.Connection, actor: Claims, version: str) -> None:
    """Delete a version.

    Raises:
        ApiError: 404.
    """
    found = VERSIONS.get(connection, actor.user, version)
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
