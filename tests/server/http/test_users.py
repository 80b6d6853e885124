"""Which devices a user has: who may ask, pages, and what can't be told."""

from typing import Any, cast

import httpx
import pytest
from attrs import Factory, define
from starlette.applications import Starlette
from starlette.routing import Route

from localful_ws.engine import EngineUnavailableError, Presence
from localful_ws.server.http.access import PublisherKey
from localful_ws.server.http.refusals import ERROR_HANDLERS
from localful_ws.server.http.users import PATH, DevicesOfUser

KEY = {"Authorization": "Bearer the-key-of-the-publisher"}


@define
class FakePresences:
    """Knows the devices of everybody."""

    present: list[Presence] = Factory(list)
    asked: list[tuple[str, int]] = Factory(list)
    failure: Exception | None = None

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        self.asked.append((user, vaults))
        if self.failure is not None:
            raise self.failure
        return self.present


async def get(presences: FakePresences, path: str, headers: dict[str, str] = KEY) -> httpx.Response:
    endpoint = DevicesOfUser(presences, PublisherKey("the-key-of-the-publisher"))
    app = Starlette(routes=[Route(PATH, endpoint.answer)], exception_handlers=cast("Any", ERROR_HANDLERS))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers=headers)


async def test_a_device() -> None:
    answer = await get(FakePresences([Presence("g1", 1.5, 3, ("v1", "v2"))]), "/v1/users/ada/devices")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "user": "ada",
        "total": 1,
        "devices": [{"group": "g1", "connectedAt": 1.5, "subscribed": 3, "vaults": ["v1", "v2"]}],
    }


async def test_nobody() -> None:
    answer = await get(FakePresences(), "/v1/users/ada/devices")
    assert (answer.status_code, answer.json()) == (200, {"user": "ada", "total": 0, "devices": []})


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("ada", "ada"),
        ("a%2Fb", "a/b"),
        ("devices", "devices"),
        ("a%2Fdevices", "a/devices"),
        ("%E2%98%83", "\N{SNOWMAN}"),
        ("a%3Fb%23", "a?b#"),
        ("a%0Ab", "a\nb"),
    ],
)
async def test_whatever_the_id_is(path: str, user: str) -> None:
    presences = FakePresences()
    answer = await get(presences, f"/v1/users/{path}/devices?vaults=0")
    assert answer.json()["user"] == user
    assert presences.asked == [(user, 0)]


async def test_pages() -> None:
    """In the order in which they came, of whichever node they are."""
    presences = FakePresences([Presence(f"g{second}", float(second), 0, ()) for second in (3, 1, 5, 2, 4)])
    seen: list[str] = []
    following: object = 0
    while following is not None:
        page = (await get(presences, f"/v1/users/ada/devices?limit=2&after={following}")).json()
        assert page["total"] == 5
        seen += [device["group"] for device in page["devices"]]
        following = page.get("next")
    assert seen == ["g1", "g2", "g3", "g4", "g5"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_without_the_key(headers: dict[str, str]) -> None:
    presences = FakePresences()
    answer = await get(presences, "/v1/users/ada/devices", headers)
    assert (answer.status_code, presences.asked) == (401, [])


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (f"{'x' * 129}/devices", "user"),
        ("%FF/devices", "user"),
        ("a/b/devices", "user"),
        ("ada/devices?limit=0", "limit"),
        ("ada/devices?limit=1001", "limit"),
        ("ada/devices?after=-1", "after"),
        ("ada/devices?vaults=x", "vaults"),
    ],
)
async def test_what_cannot_be_asked(path: str, key: str) -> None:
    answer = await get(FakePresences(), f"/v1/users/{path}")
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["identifier"], body["context"]) == (422, "invalid-query", {"key": key})


async def test_what_cannot_be_told() -> None:
    failure = EngineUnavailableError("Not all nodes have answered.", retry_after=1)
    answer = await get(FakePresences(failure=failure), "/v1/users/ada/devices")
    assert (answer.status_code, answer.json()["identifier"]) == (503, "engine-unavailable")
    assert answer.headers["retry-after"] == "1"
