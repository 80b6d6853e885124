"""``/v1/vaults``, ``/v1/items`` and ``/v1/versions``, and the snapshots.

What is the same for all three is made by `getting`, `listing` and `deleting`; see ``ROUTES`` in
`localful_ws.demo.backend.build`.
"""

import sqlite3
from collections.abc import Callable

from starlette.responses import Response

from localful_ws.demo.backend import content
from localful_ws.demo.backend.requests import Call, Handler, json_response, no_content
from localful_ws.demo.backend.tokens import Claims
from localful_ws.demo.backend.wire import (
    Item,
    NewItem,
    NewVersion,
    Page,
    Resource,
    Snapshot,
    Vault,
    VaultContent,
    Version,
)


async def list_vaults(call: Call) -> Response:
    """``GET /v1/vaults?after=&limit=``."""
    after, limit = call.page()
    rows = await call.read(
        lambda connection, actor: content.VAULTS.page(connection, "user_id", actor.user, after, limit + 1)
    )
    return _page(rows, limit)


async def create_vault(call: Call) -> Response:
    """``POST /v1/vaults``: ``vault-create``."""
    wanted = call.decode(VaultContent)
    vault = await call.write(
        lambda connection, actor: content.create_vault(
            connection, actor, wanted.protected_data, call.services.settings, call.now
        )
    )
    return json_response(vault, 201)


async def change_vault(call: Call) -> Response:
    """``PATCH /v1/vaults/{id}``: ``vault-update``."""
    vault_id, wanted = call.path_id(), call.decode(VaultContent)
    vault = await call.write(
        lambda connection, actor: content.change_vault(
            connection, actor, vault_id, wanted.protected_data, call.now
        )
    )
    return json_response(vault)


async def create_item(call: Call) -> Response:
    """``POST /v1/items``: ``item-create``."""
    wanted = call.decode(NewItem)
    item = await call.write(
        lambda connection, actor: content.create_item(
            connection, actor, wanted, call.services.settings, call.now
        )
    )
    return json_response(item, 201)


async def create_version(call: Call) -> Response:
    """``POST /v1/versions``: ``version-create``."""
    wanted = call.decode(NewVersion)
    version = await call.write(
        lambda connection, actor: content.create_version(
            connection, actor, wanted, call.services.settings, call.now
        )
    )
    return json_response(version, 201)


def getting(get: Callable[[sqlite3.Connection, str, str], Resource]) -> Handler:
    """``GET .../{id}``.

    Args:
        get: Gets what has an id, if it is the user's: ``get(connection, user, id)``.
    """

    async def answer(call: Call) -> Response:
        found_id = call.path_id()
        return json_response(await call.read(lambda connection, actor: get(connection, actor.user, found_id)))

    return answer


def getting_all(get: Callable[[sqlite3.Connection, str], Snapshot]) -> Handler:
    """``GET /v1/snapshot``: all that is the user's.

    Args:
        get: Gets it: ``get(connection, user)``.
    """

    async def answer(call: Call) -> Response:
        return json_response(await call.read(lambda connection, actor: get(connection, actor.user)))

    return answer


def deleting(delete: Callable[[sqlite3.Connection, Claims, str], None]) -> Handler:
    """``DELETE .../{id}``.

    Args:
        delete: Deletes it, if it is the user's, and tells of it: ``delete(connection, actor, id)``.
    """

    async def answer(call: Call) -> Response:
        lost_id = call.path_id()
        await call.write(lambda connection, actor: delete(connection, actor, lost_id))
        return no_content()

    return answer


def listing(
    list_rows: Callable[[sqlite3.Connection, str, str, str, int], list[Item] | list[Version]], within: str
) -> Handler:
    """``GET ...?<within>=&after=&limit=``, in pages.

    Args:
        list_rows: Lists them, if that in which they are is the user's: ``list_rows(connection, user, parent,
            after, limit)``.
        within: What in the query names the parent, such as ``vault``.
    """

    async def answer(call: Call) -> Response:
        parent, (after, limit) = call.query_id(within), call.page()
        rows = await call.read(
            lambda connection, actor: list_rows(connection, actor.user, parent, after, limit + 1)
        )
        return _page(rows, limit)

    return answer


def _page(rows: list[Vault] | list[Item] | list[Version], limit: int) -> Response:
    """Answer with a page, out of one row more than it may have: whether there is one says if it goes on."""
    goes_on = len(rows) > limit
    return json_response(Page(rows[:limit], rows[limit - 1].id if goes_on else None))
