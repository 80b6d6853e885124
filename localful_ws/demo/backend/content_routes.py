"""``/v1/vaults``, ``/v1/items`` and ``/v1/versions``, and the snapshots."""

from starlette.responses import Response

from localful_ws.demo.backend import content, snapshots
from localful_ws.demo.backend.requests import Call, json_response, no_content
from localful_ws.demo.backend.wire import Item, NewItem, NewVersion, Page, Vault, VaultContent, Version


async def list_vaults(call: Call) -> Response:
    """``GET /v1/vaults?after=&limit=``."""
    after, limit = call.page()
    rows = await call.read(
        lambda connection, actor: content.list_vaults(connection, actor.user, after, limit + 1)
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


async def get_vault(call: Call) -> Response:
    """``GET /v1/vaults/{id}``."""
    vault_id = call.path_id()
    vault = await call.read(lambda connection, actor: content.get_vault(connection, actor.user, vault_id))
    return json_response(vault)


async def change_vault(call: Call) -> Response:
    """``PATCH /v1/vaults/{id}``: ``vault-update``."""
    vault_id, wanted = call.path_id(), call.decode(VaultContent)
    vault = await call.write(
        lambda connection, actor: content.change_vault(
            connection, actor, vault_id, wanted.protected_data, call.now
        )
    )
    return json_response(vault)


async def delete_vault(call: Call) -> Response:
    """``DELETE /v1/vaults/{id}``: ``vault-delete``."""
    vault_id = call.path_id()
    await call.write(lambda connection, actor: content.delete_vault(connection, actor, vault_id))
    return no_content()


async def get_snapshot(call: Call) -> Response:
    """``GET /v1/snapshot``: all that is the user's."""
    return json_response(
        await call.read(lambda connection, actor: snapshots.snapshot_of_user(connection, actor.user))
    )


async def get_vault_snapshot(call: Call) -> Response:
    """``GET /v1/vaults/{id}/snapshot``."""
    vault_id = call.path_id()
    return json_response(
        await call.read(
            lambda connection, actor: snapshots.snapshot_of_vault(connection, actor.user, vault_id)
        )
    )


async def list_items(call: Call) -> Response:
    """``GET /v1/items?vault=&after=&limit=``."""
    vault, (after, limit) = call.query_id("vault"), call.page()
    rows = await call.read(
        lambda connection, actor: content.list_items(connection, actor.user, vault, after, limit + 1)
    )
    return _page(rows, limit)


async def create_item(call: Call) -> Response:
    """``POST /v1/items``: ``item-create``."""
    wanted = call.decode(NewItem)
    item = await call.write(
        lambda connection, actor: content.create_item(
            connection, actor, wanted, call.services.settings, call.now
        )
    )
    return json_response(item, 201)


async def get_item(call: Call) -> Response:
    """``GET /v1/items/{id}``."""
    item_id = call.path_id()
    return json_response(
        await call.read(lambda connection, actor: content.get_item(connection, actor.user, item_id))
    )


async def delete_item(call: Call) -> Response:
    """``DELETE /v1/items/{id}``: ``item-delete``."""
    item_id = call.path_id()
    await call.write(lambda connection, actor: content.delete_item(connection, actor, item_id))
    return no_content()


async def list_versions(call: Call) -> Response:
    """``GET /v1/versions?item=&after=&limit=``."""
    item, (after, limit) = call.query_id("item"), call.page()
    rows = await call.read(
        lambda connection, actor: content.list_versions(connection, actor.user, item, after, limit + 1)
    )
    return _page(rows, limit)


async def create_version(call: Call) -> Response:
    """``POST /v1/versions``: ``version-create``."""
    wanted = call.decode(NewVersion)
    version = await call.write(
        lambda connection, actor: content.create_version(
            connection, actor, wanted, call.services.settings, call.now
        )
    )
    return json_response(version, 201)


async def get_version(call: Call) -> Response:
    """``GET /v1/versions/{id}``."""
    version_id = call.path_id()
    return json_response(
        await call.read(lambda connection, actor: content.get_version(connection, actor.user, version_id))
    )


async def delete_version(call: Call) -> Response:
    """``DELETE /v1/versions/{id}``: ``version-delete``."""
    version_id = call.path_id()
    await call.write(lambda connection, actor: content.delete_version(connection, actor, version_id))
    return no_content()


def _page(rows: list[Vault] | list[Item] | list[Version], limit: int) -> Response:
    """Answer with a page, out of one row more than it may have: whether there is one says if it goes on."""
    goes_on = len(rows) > limit
    return json_response(Page(rows[:limit], rows[limit - 1].id if goes_on else None))
