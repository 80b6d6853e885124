"""A backend without sockets and threads, and a WebSocket server's intake that fails when told to."""

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio
import trio.testing
from attrs import Factory, define
from starlette.types import ASGIApp

from localful_ws.demo.backend import SEEDS, Backend, BackendSettings, build_backend

T = TypeVar("T")

SECRET = b"a secret of at least thirty-two bytes"
PUBLISHER_KEY = "the-key-of-the-publisher"
STARTED = 1_700_000_000.0


async def inline(work: Callable[[], T], /) -> T:
    """Run what blocks at once: to a thread Trio's test clock would not wait."""
    await trio.lowlevel.checkpoint()
    return work()


@define(eq=False)
class FakeIntake(httpx.AsyncBaseTransport):
    """The internal port of a WebSocket server.

    Attributes:
        requests: Every request: path and body.
        accepted: The events accepted, each once by user and id.
        failures: What becomes of the next requests; then all goes well. ``unreachable``: nothing arrives.
            ``lost-answer``: it is accepted, and the answer lost. Or a response.
    """

    requests: list[tuple[str, dict[str, Any]]] = Factory(list)
    accepted: list[dict[str, Any]] = Factory(list)
    disconnected: list[tuple[str, str]] = Factory(list)
    failures: deque[str | httpx.Response] = Factory(deque)
    _seen: set[tuple[str, str]] = Factory(set)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == f"Bearer {PUBLISHER_KEY}"
        path, body = request.url.path, json.loads(await request.aread())
        self.requests.append((path, body))
        failure = self.failures.popleft() if self.failures else None
        if isinstance(failure, httpx.Response):
            return failure
        if failure == "unreachable":
            raise httpx.ConnectError("nobody there")
        if path == "/v1/disconnect":
            self.disconnected.append((body["user"], body["group"]))
        else:
            for event in body["events"]:
                if (event["user"], event["id"]) not in self._seen:
                    self._seen.add((event["user"], event["id"]))
                    self.accepted.append(event)
        if failure == "lost-answer":
            raise httpx.ReadError("gone")
        return httpx.Response(202, json={})

    def names(self) -> list[str]:
        """What was accepted."""
        return [event["event"] for event in self.accepted]

    def ids(self) -> list[list[str]]:
        """The ids in each publish."""
        return [
            [event["id"] for event in body["events"]] for path, body in self.requests if path == "/v1/events"
        ]


@define(eq=False)
class ApiDevice:
    """A device that has logged in."""

    client: httpx.AsyncClient
    user: str
    group: str
    tokens: dict[str, Any]

    async def call(self, method: str, path: str, body: object = None, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens['accessToken']}"}
        content = None if body is None else json.dumps(body)
        return await self.client.request(method, path, content=content, headers=headers, **more)

    async def make(self, path: str, body: object) -> dict[str, Any]:
        response = await self.call("POST", path, body)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()
        return made

    async def vault(self, data: str = "notes") -> str:
        return str((await self.make("/v1/vaults", {"protectedData": data}))["id"])

    async def item(self, vault: str) -> str:
        return str((await self.make("/v1/items", {"vaultId": vault, "type": "note"}))["id"])

    async def version(self, item: str, data: str = "text") -> str:
        return str((await self.make("/v1/versions", {"itemId": item, "protectedData": data}))["id"])


@define(eq=False)
class World:
    """A backend that runs."""

    backend: Backend
    client: httpx.AsyncClient
    publishing: trio.CancelScope

    async def login(self, name: str = "Ada", password: str | None = None) -> ApiDevice:
        (seed,) = [seed for seed in SEEDS if seed.display_name == name]
        response = await self.client.post(
            "/v1/auth/login", json={"email": seed.email, "password": password or seed.password}
        )
        assert response.status_code == 200, response.text
        body = response.json()
        return ApiDevice(self.client, body["user"]["id"], body["group"], body["tokens"])

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [dict(row) for row in self.backend.database.connection.execute(f"SELECT * FROM {table}")]


def make_settings(directory: Path, **changes: Any) -> BackendSettings:
    values: dict[str, Any] = {
        "database": str(directory / "backend.sqlite3"),
        "jwt_secret": SECRET,
        "publisher_key": PUBLISHER_KEY,
        "password_cost": 2,
    }
    return BackendSettings(**(values | changes))


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://backend")


@asynccontextmanager
async def open_backend(
    directory: Path, intake: httpx.AsyncBaseTransport, *, publish: bool = True, **changes: Any
) -> AsyncIterator[World]:
    """Run a backend; ``publish=False`` runs all but the publisher."""
    backend = build_backend(
        make_settings(directory, **changes),
        now=lambda: STARTED + trio.current_time(),
        transport=intake,
        offload=inline,
        random=lambda: 1.0,
    )
    try:
        async with client_of(backend.app) as client, trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def run() -> None:
                with scope:
                    await backend.run()

            if publish:
                nursery.start_soon(run)
            yield World(backend, client, scope)
            nursery.cancel_scope.cancel()
    finally:
        backend.close()
