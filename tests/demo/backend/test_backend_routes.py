"""Every route, its event, and its errors."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from starlette.types import Message
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.demo.backend import build_backend
from localful_ws.demo.backend.build import ROUTES
from localful_ws.protocol import EventName
from localful_ws.publishing import PublishLimits, decode_publish_body
from tests.demo.backend.backend_world import FakeIntake, client_of, make_settings, open_backend
from tests.demo.backend.test_backend_auth import check_error

NOWHERE = "00000000-0000-4000-8000-000000000000"


async def test_every_event_is_published_by_some_route(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada = await world.login()
        expected: list[dict[str, Any]] = []

        async def change(
            method: str, path: str, body: object, event: str, data: object, vault: str | None = None
        ) -> None:
            response = await ada.call(method, path, body)
            assert response.status_code in (200, 204), response.text
            expected.append({"event": event, "data": data} | ({"vault": vault} if vault else {}))

        await change(
            "PATCH", "/v1/users", {"displayName": "Ada L."}, "user-update", {"displayName": "Ada L."}
        )
        await change(
            "PUT",
            "/v1/users/email",
            {"email": "Ada@Example.com", "password": "ada's password"},
            "user-email-change",
            {"email": "ada@example.com"},
        )
        profile = (await ada.call("GET", "/v1/users")).json()
        assert (profile["email"], profile["displayName"]) == ("ada@example.com", "Ada L.")
        await change(
            "PUT",
            "/v1/users/password",
            {"currentPassword": "ada's password", "newPassword": "a new password"},
            "user-password-change",
            None,
        )
        vault = await ada.vault("notes")
        expected.append({"event": "vault-create", "vault": vault, "data": {"protectedData": "notes"}})
        await change(
            "PATCH",
            f"/v1/vaults/{vault}",
            {"protectedData": "n"},
            "vault-update",
            {"protectedData": "n"},
            vault,
        )
        assert (await ada.call("GET", f"/v1/vaults/{vault}")).json()["protectedData"] == "n"
        item = await ada.item(vault)
        expected.append({"event": "item-create", "vault": vault, "data": {"id": item, "type": "note"}})
        version = await ada.version(item)
        expected.append({"event": "version-create", "vault": vault, "data": {"id": version, "itemId": item}})
        assert (await ada.call("GET", f"/v1/items/{item}")).json()["vaultId"] == vault
        assert (await ada.call("GET", f"/v1/versions/{version}")).json()["protectedData"] == "text"
        data = {"id": version, "itemId": item}
        await change("DELETE", f"/v1/versions/{version}", None, "version-delete", data, vault)
        await change("DELETE", f"/v1/items/{item}", None, "item-delete", {"id": item}, vault)
        await change("DELETE", f"/v1/vaults/{vault}", None, "vault-delete", None, vault)
        for path in (f"/v1/versions/{version}", f"/v1/items/{item}", f"/v1/vaults/{vault}"):
            check_error(await ada.call("GET", path), 404, "not-found")
        await change("DELETE", "/v1/users", {"password": "a new password"}, "user-delete", None)
        await wait_all_tasks_blocked()
        assert world.rows("outbox") == world.rows("outbox_refused") == []
    assert {event["event"] for event in expected} == {name.value for name in EventName}
    told = [
        {key: event[key] for key in ("event", "data", "vault") if key in event} for event in intake.accepted
    ]
    assert told == [
        {key: event[key] for key in ("event", "data", "vault") if key in event} for event in expected
    ]
    assert {event["user"] for event in intake.accepted} == {ada.user}
    assert {event["group"] for event in intake.accepted} == {ada.group}  # so no echo
    body = json.dumps({"events": intake.accepted}).encode()
    assert len(decode_publish_body(body, PublishLimits())) == len(expected)


async def test_password_change_ends_the_other_logins(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada, phone, bob = await world.login(), await world.login(), await world.login("Bob")
        body = {"currentPassword": "ada's password", "newPassword": "a new password"}
        assert (await ada.call("PUT", "/v1/users/password", body)).status_code == 204
        check_error(await phone.call("GET", "/v1/users"), 401, "unauthorized")
        for device in (ada, bob):
            assert (await device.call("GET", "/v1/users")).status_code == 200
        check_error(await ada.call("PUT", "/v1/users/password", body), 403, "wrong-credentials")
        await world.login(password="a new password")
        await wait_all_tasks_blocked()
    # The others are told before they are closed.
    assert [path for path, _ in intake.requests] == ["/v1/events", "/v1/disconnect"]
    assert intake.names() == ["user-password-change"]
    assert intake.disconnected == [(phone.user, phone.group)]


async def test_deleted_user_is_gone_with_all_content(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        ada = await world.login()
        await ada.version(await ada.item(await ada.vault()))
        check_error(await ada.call("DELETE", "/v1/users", {"password": "wrong"}), 403, "wrong-credentials")
        response = await ada.call("DELETE", "/v1/users", {"password": "ada's password"})
        assert response.status_code == 204
        check_error(await ada.call("GET", "/v1/vaults"), 401, "unauthorized")
        assert [row["display_name"] for row in world.rows("users")] == ["Bob"]
        for table in ("logins", "vaults", "items", "versions"):
            assert world.rows(table) == []


async def test_email_of_somebody_else(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada = await world.login()
        body = {"email": " BOB@example.org".strip(), "password": "ada's password"}
        check_error(await ada.call("PUT", "/v1/users/email", body), 409, "email-taken")
        body = {"email": "ada@example.com", "password": "wrong"}
        check_error(await ada.call("PUT", "/v1/users/email", body), 403, "wrong-credentials")
        await wait_all_tasks_blocked()
    assert intake.requests == []


async def test_nobody_touches_what_is_somebody_elses(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada, bob = await world.login(), await world.login("Bob")
        vault = await bob.vault()
        item = await bob.item(vault)
        version = await bob.version(item)
        await wait_all_tasks_blocked()
        published = len(intake.accepted)
        before = [world.rows(table) for table in ("vaults", "items", "versions")]
        for method, path, body in (
            ("GET", f"/v1/vaults/{vault}", None),
            ("PATCH", f"/v1/vaults/{vault}", {"protectedData": "mine"}),
            ("DELETE", f"/v1/vaults/{vault}", None),
            ("GET", f"/v1/vaults/{vault}/snapshot", None),
            ("GET", f"/v1/items?vault={vault}", None),
            ("POST", "/v1/items", {"vaultId": vault, "type": "note"}),
            ("GET", f"/v1/items/{item}", None),
            ("DELETE", f"/v1/items/{item}", None),
            ("GET", f"/v1/versions?item={item}", None),
            ("POST", "/v1/versions", {"itemId": item, "protectedData": "mine"}),
            ("GET", f"/v1/versions/{version}", None),
            ("DELETE", f"/v1/versions/{version}", None),
        ):
            theirs = await ada.call(method, path, body)
            check_error(theirs, 404, "not-found")
            # Just as what doesn't exist: nothing tells that it is there.
            nowhere = re.sub(f"{vault}|{item}|{version}", NOWHERE, json.dumps([path, body]))
            assert (await ada.call(method, *json.loads(nowhere))).json() == theirs.json()
        assert (await ada.call("GET", "/v1/vaults")).json() == {"results": [], "next": None}
        assert (await ada.call("GET", "/v1/snapshot")).json() == {"vaults": [], "items": [], "versions": []}
        assert [world.rows(table) for table in ("vaults", "items", "versions")] == before
        await wait_all_tasks_blocked()
    assert len(intake.accepted) == published


async def test_every_route_but_those_of_logging_in_needs_a_token(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    bodies = {
        ("PATCH", "/v1/users"): {"displayName": "x"},
        ("DELETE", "/v1/users"): {"password": "x"},
        ("PUT", "/v1/users/email"): {"email": "a@b", "password": "x"},
        ("PUT", "/v1/users/password"): {"currentPassword": "x", "newPassword": "12345678"},
        ("POST", "/v1/vaults"): {"protectedData": "x"},
        ("PATCH", "/v1/vaults/{id}"): {"protectedData": "x"},
        ("POST", "/v1/items"): {"vaultId": "x", "type": "x"},
        ("POST", "/v1/versions"): {"itemId": "x", "protectedData": "x"},
    }
    async with open_backend(tmp_path, FakeIntake()) as world:
        for path, handlers in ROUTES.items():
            for method in handlers:
                if not path.startswith("/v1/auth/"):
                    response = await world.client.request(
                        method, path, json=bodies.get((method, path)), params={"vault": "x", "item": "x"}
                    )
                    check_error(response, 401, "unauthorized")


async def test_lists_come_in_pages(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake(), max_page=3) as world:
        ada = await world.login()
        vaults = sorted([await ada.vault() for _ in range(5)])
        items = sorted([await ada.item(vaults[0]) for _ in range(5)])
        versions = sorted([await ada.version(items[0]) for _ in range(5)])
        for path, ids in (
            ("/v1/vaults", vaults),
            (f"/v1/items?vault={vaults[0]}", items),
            (f"/v1/versions?item={items[0]}", versions),
        ):
            join = "&" if "?" in path else "?"
            first = (await ada.call("GET", path)).json()
            assert [row["id"] for row in first["results"]] == ids[:3]
            assert first["next"] == ids[2]
            last = (await ada.call("GET", f"{path}{join}after={first['next']}&limit=2")).json()
            assert ([row["id"] for row in last["results"]], last["next"]) == (ids[3:], None)
            for limit in ("0", "4", "x", "-1", "1e1", "", "9" * 5000):
                response = await ada.call("GET", f"{path}{join}limit={limit}")
                check_error(response, 422, "invalid-query")
        for path in ("/v1/items", "/v1/versions", f"/v1/items?vault={'x' * 129}"):
            check_error(await ada.call("GET", path), 422, "invalid-query")


async def test_snapshots(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        ada, bob = await world.login(), await world.login("Bob")
        await bob.version(await bob.item(await bob.vault()))
        vaults = [await ada.vault() for _ in range(2)]
        items = [await ada.item(vault) for vault in vaults]
        versions = [await ada.version(item, f"text of {item}") for item in items]

        def ids(snapshot: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
            return {kind: {row["id"] for row in rows} for kind, rows in snapshot.items()}

        everything = (await ada.call("GET", "/v1/snapshot")).json()
        assert ids(everything) == {"vaults": {*vaults}, "items": {*items}, "versions": {*versions}}
        one = (await ada.call("GET", f"/v1/vaults/{vaults[0]}/snapshot")).json()
        assert ids(one) == {"vaults": {vaults[0]}, "items": {items[0]}, "versions": {versions[0]}}
        assert one["versions"][0]["protectedData"] == f"text of {items[0]}"


async def test_quotas(tmp_path: Path, autojump_clock: MockClock) -> None:
    limits: dict[str, Any] = {"max_vaults": 1, "max_items": 1, "max_versions": 2, "max_content": 10}
    async with open_backend(tmp_path, FakeIntake(), **limits) as world:
        ada, bob = await world.login(), await world.login("Bob")
        vault = await ada.vault()
        item = await ada.item(vault)
        new_version = {"itemId": item, "protectedData": "12345"}
        check_error(await ada.call("POST", "/v1/vaults", {"protectedData": ""}), 409, "quota-reached")
        new_item = {"vaultId": vault, "type": "note"}
        check_error(await ada.call("POST", "/v1/items", new_item), 409, "quota-reached")
        await ada.version(item, "123456")
        check_error(await ada.call("POST", "/v1/versions", new_version), 409, "quota-reached")
        await ada.version(item, "1234")
        new_version["protectedData"] = ""
        check_error(await ada.call("POST", "/v1/versions", new_version), 409, "quota-reached")
        await bob.vault()  # each has a quota of one's own


@pytest.mark.parametrize(
    ("content", "status", "identifier", "key"),
    [
        (b"", 400, "not-json", None),
        (b"\xff", 400, "not-json", None),
        (b'{"email": "\\ud800", "password": "x"}', 400, "not-json", None),
        (b"[" * 100_000, 422, "invalid-body", None),
        (b"[]", 422, "invalid-body", None),
        (b'{"email": "a@b"}', 422, "invalid-body", "password"),
        (b'{"email": "a@b", "password": 7}', 422, "invalid-body", "password"),
        (b'{"email": null, "password": "x"}', 422, "invalid-body", "email"),
        (b'{"email": "a@b", "password": "x", "admin": true}', 422, "invalid-body", "admin"),
        (b'{"email": "a@b", "password": "%s"}' % (b"x" * 257), 422, "invalid-body", "password"),
    ],
)
async def test_bodies_that_cannot_be(
    tmp_path: Path,
    autojump_clock: MockClock,
    content: bytes,
    status: int,
    identifier: str,
    key: str | None,
) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        response = await world.client.post("/v1/auth/login", content=content)
        check_error(response, status, identifier)
        assert response.json()["context"] == ({} if key is None else {"key": key})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/users", {"displayName": ""}),
        ("PUT", "/v1/users/email", {"email": "no address", "password": "x"}),
        ("PUT", "/v1/users/password", {"currentPassword": "x", "newPassword": "short"}),
        ("POST", "/v1/vaults", {"protectedData": "x" * 4097}),
        ("POST", "/v1/items", {"vaultId": "", "type": "x"}),
        ("POST", "/v1/versions", {"itemId": "x", "protectedData": "x" * 65537}),
    ],
)
async def test_values_that_cannot_be(
    tmp_path: Path, autojump_clock: MockClock, method: str, path: str, body: object
) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        check_error(await (await world.login()).call(method, path, body), 422, "invalid-body")


async def test_a_vault_with_the_worst_of_data_fits_into_its_event(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        await (await world.login()).vault("\x01" * 4096)
        await wait_all_tasks_blocked()
    body = json.dumps({"events": intake.accepted}).encode()
    assert len(decode_publish_body(body, PublishLimits())) == 1


async def test_a_body_that_is_too_big(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake(), max_body_bytes=100) as world:
        response = await world.client.post("/v1/auth/login", content=b" " * 101)
        check_error(response, 413, "body-too-big")
        response = await world.client.post("/v1/auth/login", content=b" " * 100)
        check_error(response, 400, "not-json")


async def test_a_client_that_goes_away_before_the_end_of_its_body(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    coming: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async with open_backend(tmp_path, FakeIntake()) as world:
        scope = {"type": "http", "method": "POST", "path": "/v1/auth/login", "headers": []}
        await world.backend.app(scope, receive, send)
        assert not coming


async def test_paths_and_methods_that_are_not_there(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        check_error(await world.client.get("/v1/nothing"), 404, "not-found")
        check_error(await world.client.get("/v1/vaults/"), 404, "not-found")
        response = await world.client.get("/v1/auth/login")
        check_error(response, 405, "method-not-allowed")
        assert response.headers["Allow"] == "POST"


async def test_a_fault_of_our_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        world.backend.database.connection.execute("DROP TABLE logins")
        body = {"email": "ada@example.org", "password": "ada's password"}
        check_error(await world.client.post("/v1/auth/login", json=body), 500, "internal-error")


async def test_a_database_that_others_hold(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with (
        open_backend(tmp_path, FakeIntake(), busy_seconds=0.01) as world,
        open_backend(tmp_path, FakeIntake(), publish=False) as other,
    ):
        ada = await world.login()
        other.backend.database.connection.execute("BEGIN IMMEDIATE")
        response = await ada.call("POST", "/v1/vaults", {"protectedData": "x"})
        check_error(response, 503, "busy")
        assert response.headers["Retry-After"] == "1"
        other.backend.database.connection.execute("ROLLBACK")
        await ada.vault()


async def test_on_threads_and_at_the_same_time(tmp_path: Path) -> None:
    """As it is used: real threads, and many requests at once."""
    backend = build_backend(make_settings(tmp_path), transport=FakeIntake())
    statuses = []
    async with client_of(backend.app) as client:
        body = {"email": "ada@example.org", "password": "ada's password"}

        async def log_in(client: httpx.AsyncClient) -> None:
            statuses.append((await client.post("/v1/auth/login", json=body)).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(log_in, client)
    backend.close()
    assert statuses == [200] * 10
