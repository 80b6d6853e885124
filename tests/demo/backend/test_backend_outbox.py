"""An event is published if, and only if, its change was committed; in order, and once."""

import sqlite3
from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.demo.backend import build_backend
from localful_ws.demo.backend.outbox import add_event
from localful_ws.protocol import EventName
from localful_ws.server.http.app import build_app
from tests.demo.backend.backend_world import (
    PUBLISHER_KEY,
    SECRET,
    STARTED,
    ApiDevice,
    FakeIntake,
    make_settings,
    open_backend,
)
from tests.world import open_world


async def test_published_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada = await world.login()
        began = trio.current_time()
        await ada.vault()
        await wait_all_tasks_blocked()
        assert intake.names() == ["vault-create"]
        assert trio.current_time() == began
        assert world.rows("outbox") == []


async def test_what_is_rolled_back_is_not_published(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:

        def change(connection: sqlite3.Connection) -> None:
            add_event(connection, EventName.USER_UPDATE, user="ada", group="laptop")
            raise RuntimeError("something failed after the event was written")

        with pytest.raises(RuntimeError):
            await world.backend.database.write(change)
        await world.login()  # a commit, which wakes the publisher
        await wait_all_tasks_blocked()
        assert world.rows("outbox") == []
    assert intake.requests == []


async def test_all_is_published_while_the_server_is_away_in_order_and_with_the_same_ids(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    intake = FakeIntake()
    draining = httpx.Response(503, headers={"Retry-After": "5"}, json={"identifier": "draining"})
    intake.failures.extend(["unreachable", draining, httpx.Response(500), httpx.Response(401), "unreachable"])
    async with open_backend(tmp_path, intake, retry_seconds=10) as world:
        with capture_logs() as log:
            ada = await world.login()
            vaults = [await ada.vault()]
            await wait_all_tasks_blocked()
            vaults += [await ada.vault() for _ in range(4)]
            assert intake.accepted == []
            await trio.sleep(30)
        assert [event["vault"] for event in intake.accepted] == vaults
    *tries, rest = intake.ids()
    assert len(tries) == 6
    assert all(ids == tries[0] for ids in tries)
    assert (len(tries[0]), len(rest)) == (1, 4)
    assert [entry["reason"] for entry in log] == [
        "No answer: ConnectError.",
        "HTTP 503 (draining)",
        "HTTP 500",
        "HTTP 401",
        "No answer: ConnectError.",
    ]


async def test_pauses_grow_up_to_a_bound(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    intake.failures.extend(["unreachable"] * 20)
    async with open_backend(tmp_path, intake, retry_seconds=10) as world:
        ada = await world.login()
        await ada.vault()
        await trio.sleep(sum([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]) + 13 * 10 - 0.1)
        assert intake.names() == []
        await trio.sleep(0.2)
    assert intake.names() == ["vault-create"]


async def test_a_server_that_does_not_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    class Silent(FakeIntake):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if not self.requests:
                self.requests.append((request.url.path, {}))
                await trio.sleep_forever()
            return await super().handle_async_request(request)

    intake = Silent()
    async with open_backend(tmp_path, intake, publish_seconds=10) as world:
        await (await world.login()).vault()
        await trio.sleep(11)
    assert intake.names() == ["vault-create"]


async def test_order_over_many_batches_and_disconnects(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    intake.failures.append("unreachable")  # so that all of it waits
    async with open_backend(tmp_path, intake, batch_events=2) as world:
        ada, phone = await world.login(), await world.login()
        vaults = [await ada.vault() for _ in range(3)]
        await world.client.post("/v1/auth/logout", json={"refreshToken": phone.tokens["refreshToken"]})
        vaults += [await ada.vault() for _ in range(3)]
        await trio.sleep(10)
        assert world.rows("outbox") == []
    assert [event["vault"] for event in intake.accepted] == vaults
    shape = [len(body.get("events", ())) for _, body in intake.requests[1:]]
    assert shape == [1, 2, 0, 1, 2]


async def test_an_answer_that_was_lost(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    intake.failures.append("lost-answer")
    async with open_backend(tmp_path, intake) as world:
        await (await world.login()).vault()
        await trio.sleep(1)
        assert world.rows("outbox") == []
    first, second = intake.ids()
    assert first == second


async def test_what_waits_survives_a_restart(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake, publish=False) as world:
        ada = await world.login()
        vaults = [await ada.vault() for _ in range(3)]
        ids = [row["id"] for row in world.rows("outbox")]
    async with open_backend(tmp_path, intake):
        await wait_all_tasks_blocked()
    assert [event["vault"] for event in intake.accepted] == vaults
    assert intake.ids() == [ids]


async def test_ids_are_not_used_again_in_another_database(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    for directory in (tmp_path / "one", tmp_path / "two"):
        directory.mkdir()
        async with open_backend(directory, intake) as world:
            await (await world.login()).vault()
            await wait_all_tasks_blocked()
    (first,), (second,) = intake.ids()
    assert first != second


@pytest.mark.parametrize("named", [True, False])
async def test_a_refused_entry_does_not_hold_up_the_others(
    tmp_path: Path, autojump_clock: MockClock, *, named: bool
) -> None:
    class Choosy(FakeIntake):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            for index, event in enumerate(json_of(request)):
                if event["data"] == {"protectedData": "bad"}:
                    context = {"index": index} if named else {}
                    body = {"identifier": "event-too-big", "context": context}
                    return httpx.Response(413, json=body)
            return await super().handle_async_request(request)

    intake = Choosy()
    async with open_backend(tmp_path, intake, publish=False) as world:
        ada = await world.login()
        for data in ("1", "2", "bad", "3", "4"):
            await ada.vault(data)
    with capture_logs() as log:
        async with open_backend(tmp_path, intake) as world:
            await wait_all_tasks_blocked()
            assert world.rows("outbox") == []
            (refused,) = world.rows("outbox_refused")
    assert '"bad"' in refused["body"]
    assert refused["reason"] == "HTTP 413 (event-too-big)"
    assert [event["data"]["protectedData"] for event in intake.accepted] == ["1", "2", "3", "4"]
    assert [entry["log_level"] for entry in log] == ["error"]


@pytest.mark.parametrize(("status", "identifier"), [(422, "invalid-body"), (503, "too-many-revocations")])
async def test_a_refused_disconnect_is_set_aside(
    tmp_path: Path, autojump_clock: MockClock, status: int, identifier: str
) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada, phone = await world.login(), await world.login()
        intake.failures.append(httpx.Response(status, json={"identifier": identifier}))
        await world.client.post("/v1/auth/logout", json={"refreshToken": phone.tokens["refreshToken"]})
        await ada.vault()
        await wait_all_tasks_blocked()
        (refused,) = world.rows("outbox_refused")
        assert world.rows("outbox") == []
    assert (refused["path"], refused["reason"]) == ("/v1/disconnect", f"HTTP {status} ({identifier})")
    assert intake.names() == ["vault-create"]


async def test_a_wrong_address_is_no_entrys_fault(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    intake.failures.append(httpx.Response(404))
    async with open_backend(tmp_path, intake, retry_seconds=10) as world:
        await (await world.login()).vault()
        await wait_all_tasks_blocked()
        assert len(world.rows("outbox")) == 1
        await trio.sleep(10.1)
        assert world.rows("outbox") == world.rows("outbox_refused") == []
    assert intake.names() == ["vault-create"]


async def test_logs_hold_no_key_and_no_content(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    intake.failures.extend(["unreachable", httpx.Response(422, text="a <b>page</b>")])
    with capture_logs() as log:
        async with open_backend(tmp_path, intake) as world:
            await (await world.login()).vault("gq2W-secret")
            await trio.sleep(1)
            (refused,) = world.rows("outbox_refused")
    assert refused["reason"] == "HTTP 422"
    text = repr(log) + repr(make_settings(tmp_path))
    assert "gq2W" not in text
    assert PUBLISHER_KEY not in text
    assert SECRET.decode() not in text


class Node(httpx.AsyncBaseTransport):
    """The internal port of a real node. It may lose answers, and hold requests back."""

    def __init__(self, app: httpx.ASGITransport) -> None:
        self.app = app
        self.lost = 0
        self.held = trio.Event()
        self.held.set()
        self.answers: list[tuple[int, bytes]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self.held.wait()
        response = await self.app.handle_async_request(request)
        self.answers.append((response.status_code, await response.aread()))
        if self.lost:
            self.lost -= 1
            raise httpx.ReadError("gone")
        return response


async def test_with_a_real_node(tmp_path: Path, autojump_clock: MockClock) -> None:
    """From a change over HTTP to the other devices: not back, not to Bob, once; then logging out."""
    async with open_world("lean", jwt_secret=SECRET) as sockets:
        app = build_app(
            sockets.node,
            publisher_key=PUBLISHER_KEY,
            limits=sockets.settings.publish_limits(),
            body_budget=sockets.settings.publish_budget,
            survey=sockets.node.respondent.answer,
            now=sockets.node.clock.now,
            revocation_seconds=sockets.settings.revocation_seconds,
        )
        node = Node(httpx.ASGITransport(app))
        async with open_backend(tmp_path, node, retry_seconds=1) as world:
            laptop, phone, bob = await world.login(), await world.login(), await world.login("Bob")
            vault = await laptop.vault()
            devices = []
            for api in (laptop, phone, bob):
                device = await sockets.open()
                token = api.tokens["accessToken"]
                await device.say({"event": "authenticate", "token": token, "vaults": [vault]})
                assert device.take()[0]["event"] == "authenticated"
                devices.append(device)

            # The server accepts it and its answer is lost; the backend then dies before it can try again.
            node.lost = 1
            item = await laptop.item(vault)
            await wait_all_tasks_blocked()
            world.publishing.cancel()
            await wait_all_tasks_blocked()
            assert len(world.rows("outbox")) == 1
            version = await laptop.version(item)

        async with open_backend(tmp_path, node) as world:
            laptop.client = phone.client = world.client
            await wait_all_tasks_blocked()
            assert world.rows("outbox") == []
            assert node.answers[-1] == (202, b'{"accepted":1,"duplicates":1}')
            assert devices[1].take() == [
                {"event": "item-create", "vault": vault, "data": {"id": item, "type": "note"}},
                {"event": "version-create", "vault": vault, "data": {"id": version, "itemId": item}},
            ]
            assert devices[0].take() == devices[2].take() == []

            await trio.sleep(1)
            await world.client.post("/v1/auth/logout", json={"refreshToken": phone.tokens["refreshToken"]})
            await wait_all_tasks_blocked()
            assert devices[1].closed == (4403, "forbidden")
            assert devices[0].closed is None

            again = await sockets.open()
            await again.say({"event": "authenticate", "token": phone.tokens["accessToken"]})
            assert again.closed == (4403, "forbidden")
        assert sockets.take_failures() == ["publishing failed; trying again"]


@pytest.mark.parametrize("moment", range(4))
async def test_snapshot_and_events_make_up_all_content(
    tmp_path: Path, autojump_clock: MockClock, moment: int
) -> None:
    """Whenever among changes a device fetches the snapshot, it ends with the content."""
    async with open_world("lean", jwt_secret=SECRET) as sockets:
        app = build_app(
            sockets.node,
            publisher_key=PUBLISHER_KEY,
            limits=sockets.settings.publish_limits(),
            body_budget=sockets.settings.publish_budget,
            survey=sockets.node.respondent.answer,
            now=sockets.node.clock.now,
            revocation_seconds=sockets.settings.revocation_seconds,
        )
        node = Node(httpx.ASGITransport(app))
        async with open_backend(tmp_path, node) as world:
            laptop, phone = await world.login(), await world.login()
            vault = await laptop.vault()
            items = [await laptop.item(vault) for _ in range(2)]
            node.held = trio.Event()  # these two events come after the snapshot, which has them already
            late = await laptop.item(vault)
            await laptop.call("DELETE", f"/v1/items/{items[0]}")
            device = await sockets.open()
            token = phone.tokens["accessToken"]
            await device.say({"event": "authenticate", "token": token, "vaults": [vault]})
            assert device.take()[0]["event"] == "authenticated"
            changes = [("POST", late), ("DELETE", items[1]), ("POST", late)]
            for method, item in changes[:moment]:
                await _change(laptop, method, vault, item)
            snapshot = (await phone.call("GET", f"/v1/vaults/{vault}/snapshot")).json()
            for method, item in changes[moment:]:
                await _change(laptop, method, vault, item)
            node.held.set()
            await wait_all_tasks_blocked()
            content = {row["id"] for row in snapshot["items"]}
            for event in device.take():
                if event["event"] == "item-create":
                    content.add(event["data"]["id"])
                else:
                    content.discard(event["data"]["id"])
            assert content == {row["id"] for row in world.rows("items")}
            assert len(content) == 3


async def _change(device: ApiDevice, method: str, vault: str, item: str) -> None:
    if method == "POST":
        await device.item(vault)
    else:
        assert (await device.call("DELETE", f"/v1/items/{item}")).status_code == 204


async def test_seeding_again_adds_nobody_twice(tmp_path: Path, autojump_clock: MockClock) -> None:
    for _ in range(2):
        async with open_backend(tmp_path, FakeIntake(), publish=False) as world:
            assert sorted(row["email"] for row in world.rows("users")) == [
                "ada@example.org",
                "bob@example.org",
            ]
            assert all(row["created_at"] >= STARTED for row in world.rows("users"))


def test_a_secret_that_is_too_short(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        build_backend(make_settings(tmp_path, jwt_secret=b"short"))


def json_of(request: httpx.Request) -> list[dict[str, object]]:
    import json

    events: list[dict[str, object]] = json.loads(request.content)["events"]
    return events
