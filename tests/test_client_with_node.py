"""Our client and our server together, without sockets and on Trio's clock."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from world import TRANSPORTS, World, open_world

from localful_ws.client import (
    Client,
    ClosedByServerError,
    Connected,
    Disconnected,
    ReceivedEvent,
    RequestRefusedError,
    Status,
    open_client,
)

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


def client_of(world: World, statuses: list[Status] | None = None, **changes: Any) -> Any:
    async def open_stream() -> trio.abc.Stream:
        near, far = trio.testing.memory_stream_pair()
        world.connections.start_soon(world.node.serve_stream, far)
        return near

    options: dict[str, Any] = {
        "get_token": world.token,
        "open_stream": open_stream,
        "draw": lambda: 1.0,
        "on_status": (statuses if statuses is not None else []).append,
    }
    return open_client("ws://localhost/v1/sync", **options | changes)


async def test_a_device_gets_what_it_subscribed_to(autojump_clock: MockClock, transport: str) -> None:
    async with open_world(transport) as world:
        client: Client
        async with client_of(world, vaults=["v1"]) as client:
            session = await client.wait_ready()
            assert (session.user, session.group) == ("ada", "laptop")
            await world.publish(
                {"event": "item-create", "user": "ada", "vault": "v1", "data": {"n": 1}},
                {"event": "item-create", "user": "ada", "vault": "v2", "data": {"n": 2}},
                {"event": "user-update", "user": "ada", "group": "laptop"},
                {"event": "user-update", "user": "bob"},
            )
            assert await client.subscribe(["v2"]) == ("v2",)
            await world.publish({"event": "item-create", "user": "ada", "vault": "v2", "data": {"n": 3}})
            assert await anext(client) == ReceivedEvent("item-create", "v1", {"n": 1})
            assert await anext(client) == ReceivedEvent("item-create", "v2", {"n": 3})
        await trio.testing.wait_all_tasks_blocked()
        assert len(tuple(world.node.devices())) == 0


async def test_hours_of_hourly_tokens_are_one_connection(autojump_clock: MockClock, transport: str) -> None:
    statuses: list[Status] = []
    async with open_world(transport) as world, client_of(world, statuses) as client:
        await client.wait_ready()
        await trio.sleep(3 * 3600)
        assert client.session is not None
    # Asked 60 s before each expiry: every 59 minutes.
    assert len(statuses) == 1 + 3 * 3600 // (59 * 60)
    assert all(isinstance(status, Connected) for status in statuses)


async def test_a_token_that_is_not_renewed_ends_it(autojump_clock: MockClock, transport: str) -> None:
    async with open_world(transport) as world:
        token = world.token()
        async with client_of(world, get_token=lambda: token) as client:
            with pytest.raises(ClosedByServerError) as caught:
                await anext(client)
            # At the end of the hour, and after one pause.
            assert (caught.value.code, world.now()) == (4410, 3601)


async def test_a_restart_is_survived(autojump_clock: MockClock, transport: str) -> None:
    statuses: list[Status] = []
    async with open_world(transport) as world, client_of(world, statuses, vaults=["v1"]) as client:
        await client.wait_ready()
        await world.node.drain(2)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(statuses[-1], Disconnected)
        assert (statuses[-1].code, statuses[-1].reason) == (1001, "server-shutdown")
        await trio.sleep(11)
        # A node that drains refuses the handshake: try again later.
        assert statuses[-1] == Disconnected(None, "", statuses[-1].message, 10.0)


async def test_a_refused_subscription_changes_nothing(autojump_clock: MockClock, transport: str) -> None:
    async with open_world(transport, max_vaults=2) as world, client_of(world, vaults=["v1"]) as client:
        await client.wait_ready()
        with pytest.raises(RequestRefusedError, match="too-many-vaults"):
            await client.subscribe(["v1", "v2", "v3"])
        assert client.vaults == ("v1",)
        await world.publish({"event": "item-create", "user": "ada", "vault": "v1", "data": 1})
        assert (await anext(client)).data == 1


async def test_a_revoked_device_does_not_come_back(autojump_clock: MockClock, transport: str) -> None:
    async with open_world(transport) as world, client_of(world) as client:
        await client.wait_ready()
        assert await world.disconnect(group="laptop") == 1
        with pytest.raises(ClosedByServerError) as caught:
            await anext(client)
        assert (caught.value.code, caught.value.reason) == (4403, "forbidden")


async def test_a_deleted_user_hears_of_it_and_is_gone(autojump_clock: MockClock, transport: str) -> None:
    async with open_world(transport) as world, client_of(world) as client:
        await client.wait_ready()
        await world.publish({"event": "user-delete", "user": "ada"})
        assert (await anext(client)).event == "user-delete"
        with pytest.raises(ClosedByServerError, match="4403 forbidden"):
            await anext(client)
