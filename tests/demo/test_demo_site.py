"""What the page is served besides the API, what the demo begins with, and how it begins anew."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from attrs import define

from localful_ws.demo.backend import Backend, BackendSettings
from localful_ws.demo.contents import CONTENTS
from localful_ws.demo.page import __file__ as page_file
from localful_ws.demo.site import FILES, build_site


@define
class Site:
    backend: Backend
    client: httpx.AsyncClient

    async def log_in(
        self, email: str = "ada@example.org", password: str = "ada's password"
    ) -> httpx.Response:
        return await self.client.post("/v1/auth/login", json={"email": email, "password": password})

    async def snapshot(self, login: httpx.Response) -> dict[str, list[dict[str, str]]]:
        token = login.json()["tokens"]["accessToken"]
        answer = await self.client.get("/v1/snapshot", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        found: dict[str, list[dict[str, str]]] = answer.json()
        return found

    def outbox(self) -> list[dict[str, str]]:
        rows = self.backend.database.connection.execute("SELECT body FROM outbox ORDER BY position")
        return [json.loads(row["body"]) for row in rows]


@asynccontextmanager
async def open_site(directory: Path) -> AsyncIterator[Site]:
    settings = BackendSettings(
        database=str(directory / "site.sqlite3"),
        jwt_secret=b"a secret of at least thirty-two bytes",
        publisher_key="key",
        password_cost=2,
    )
    backend = build_site(settings, "ws://127.0.0.1:7/v1/sync", 25)
    try:
        transport = httpx.ASGITransport(backend.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            yield Site(backend, client)
    finally:
        backend.close()


async def test_every_file_of_the_page_is_served(tmp_path: Path) -> None:
    theirs = {
        path.name for path in Path(page_file).parent.iterdir() if path.suffix in (".html", ".css", ".js")
    }
    assert theirs <= {file.rpartition("/")[2] for file in FILES.values()}
    async with open_site(tmp_path) as site:
        for path in FILES:
            answer = await site.client.get(path)
            assert answer.status_code == 200
            assert "connect-src 'self' ws://127.0.0.1:7;" in answer.headers["Content-Security-Policy"]
        # The API is where it was.
        assert (await site.client.get("/v1/vaults")).status_code == 401
        assert (await site.client.get("/demo.py")).json()["identifier"] == "not-found"


async def test_what_the_page_has_to_know(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        answer = await site.client.get("/config.json")
        config = answer.json()
        assert answer.headers["Cache-Control"] == "no-store"
        assert config["websocketUrl"] == "ws://127.0.0.1:7/v1/sync"
        assert (config["accessSeconds"], config["renewalWindow"]) == (900, 25)
        for user in config["users"]:
            assert (await site.log_in(user["email"], user["password"])).status_code == 200


async def test_what_it_begins_with(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        snapshot = await site.snapshot(await site.log_in())
    vaults = CONTENTS["ada@example.org"]
    # In the order in which they stand there.
    assert [vault["protectedData"] for vault in snapshot["vaults"]] == [*vaults]
    assert [version["protectedData"] for version in snapshot["versions"]] == [
        text for texts in vaults.values() for text in texts
    ]
    assert len(snapshot["items"]) == len(snapshot["versions"])


async def test_starting_over(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        before = await site.log_in()
        first = await site.snapshot(before)
        told = len(site.outbox())
        answer = await site.client.post("/start-over", json={})
        assert (answer.status_code, answer.content) == (204, b"")
        # Those who are connected are told, all of the user's devices.
        deleted = [event for event in site.outbox()[told:] if event["event"] == "user-delete"]
        assert before.json()["user"]["id"] in [event["user"] for event in deleted]
        assert len(deleted) == len(CONTENTS)
        # The login is over, and a new one finds what there was at the beginning.
        token = before.json()["tokens"]["accessToken"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await site.client.get("/v1/vaults", headers=headers)).status_code == 401
        again = await site.log_in()
        assert again.json()["user"]["id"] != before.json()["user"]["id"]
        second = await site.snapshot(again)
        names = [[vault["protectedData"] for vault in snapshot["vaults"]] for snapshot in (first, second)]
        assert names[0] == names[1]


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{}", "text/plain"),
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b"\xff", "application/json"),
    ],
)
async def test_another_page_cannot_start_it_over(tmp_path: Path, content: bytes, media_type: str) -> None:
    async with open_site(tmp_path) as site:
        answer = await site.client.post("/start-over", content=content, headers={"Content-Type": media_type})
        assert answer.status_code == 422
        assert (await site.log_in()).status_code == 200
        assert not [event for event in site.outbox() if event["event"] == "user-delete"]
