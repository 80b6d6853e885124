"""Puts the backend together."""

import random as random_numbers
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import httpx
import trio
from attrs import frozen
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from localful_ws.demo.backend import auth_routes, content, content_routes, snapshots, user_routes
from localful_ws.demo.backend.content_routes import deleting, getting, listing
from localful_ws.demo.backend.database import Database, Offload, in_thread, transact
from localful_ws.demo.backend.errors import ApiError
from localful_ws.demo.backend.publisher import OutboxPublisher
from localful_ws.demo.backend.requests import (
    BodyLimits,
    Handler,
    Services,
    endpoint,
    handle_api_error,
    handle_failure,
    handle_http_exception,
)
from localful_ws.demo.backend.seed import seed_users
from localful_ws.demo.backend.settings import BackendSettings
from localful_ws.server.http.server import HttpServer

_HASHES_AT_ONCE = 2
_MAX_CONNECTIONS = 128
_GOODBYE_SECONDS = 1.0

ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/auth/login": {"POST": auth_routes.log_in},
    "/v1/auth/refresh": {"POST": auth_routes.refresh},
    "/v1/auth/logout": {"POST": auth_routes.log_out},
    "/v1/users": {
        "GET": user_routes.get_profile,
        "PATCH": user_routes.change_profile,
        "DELETE": user_routes.delete_user,
    },
    "/v1/users/email": {"PUT": user_routes.change_email},
    "/v1/users/password": {"PUT": user_routes.change_password},
    "/v1/snapshot": {"GET": content_routes.getting_all(snapshots.snapshot_of_user)},
    "/v1/vaults": {"GET": content_routes.list_vaults, "POST": content_routes.create_vault},
    "/v1/vaults/{id}": {
        "GET": getting(content.VAULTS.get),
        "PATCH": content_routes.change_vault,
        "DELETE": deleting(content.delete_vault),
    },
    "/v1/vaults/{id}/snapshot": {"GET": getting(snapshots.snapshot_of_vault)},
    "/v1/items": {"GET": listing(content.list_items, "vault"), "POST": content_routes.create_item},
    "/v1/items/{id}": {"GET": getting(content.ITEMS.get), "DELETE": deleting(content.delete_item)},
    "/v1/versions": {"GET": listing(content.list_versions, "item"), "POST": content_routes.create_version},
    "/v1/versions/{id}": {"GET": getting(content.VERSIONS.get), "DELETE": deleting(content.delete_version)},
}
"""What answers where."""


@frozen
class Backend:
    """A backend.

    Attributes:
        app: The ASGI application; it needs Trio.
        database: Its database.
    """

    app: Starlette
    database: Database
    _publisher: OutboxPublisher

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish what is committed, until cancelled; what is not published then stays in the database."""
        task_status.started()
        await self._publisher.run()

    async def serve(
        self,
        listening: socket.socket,
        shutdown: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve HTTP, and `run`, until ``shutdown``.

        Args:
            listening: Where; it is closed at the end.
            shutdown: Ends it.
            task_status: Started when connections are accepted.
        """
        server = HttpServer(self.app, max_connections=_MAX_CONNECTIONS)
        async with trio.open_nursery() as background:
            await background.start(self.run)
            await server.serve(
                listening, shutdown=shutdown, graceful_timeout=_GOODBYE_SECONDS, task_status=task_status
            )
            background.cancel_scope.cancel()

    def close(self) -> None:
        """Close the database, after all else has ended."""
        self.database.close()


def build_backend(
    settings: BackendSettings,
    *,
    now: Callable[[], float] = time.time,
    transport: httpx.AsyncBaseTransport | None = None,
    offload: Offload = in_thread,
    random: Callable[[], float] = random_numbers.random,
    handlers: Mapping[str, Mapping[str, Handler]] | None = None,
    routes: Sequence[BaseRoute] = (),
) -> Backend:
    """Build a backend: open its database, and make tables and the demo's users where there are none.

    Args:
        settings: The settings.
        now: The present, in Unix seconds.
        transport: How to reach the WebSocket server, if not over the network.
        offload: Runs what blocks.
        random: Gives numbers from 0 to 1, for the pauses between attempts to publish.
        handlers: What answers where besides `ROUTES`.
        routes: More routes, such as those of a page.

    Raises:
        sqlite3.Error: If the database can't be opened.
    """
    database = Database(settings.database, settings.busy_seconds, offload)
    if settings.seed:
        transact(
            database.connection,
            "BEGIN IMMEDIATE",
            lambda connection: seed_users(connection, settings.password_cost, now()),
        )
    publisher = OutboxPublisher(database, settings, transport, random, now)
    database.on_commit(publisher.wake)
    services = Services(settings, database, now, offload, trio.CapacityLimiter(_HASHES_AT_ONCE))
    app = Starlette(
        routes=[
            *(
                Route(path, endpoint(services, answering), methods=list(answering))
                for path, answering in {**ROUTES, **(handlers or {})}.items()
            ),
            *routes,
        ],
        middleware=[Middleware(BodyLimits, max_bytes=settings.max_body_bytes)],
        exception_handlers={
            ApiError: handle_api_error,
            HTTPException: handle_http_exception,
            Exception: handle_failure,
        },
    )
    app.router.redirect_slashes = False
    return Backend(app, database, publisher)
