"""Our client and our server together, without sockets and on Trio's clock."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from trio.testing import MockClock

from localful_ws.client import (
    Client,
    ClosedByServerError,
    Connected,
    Disconnected,
    ReceivedEvent,
    RequestRefusedError,
    SnapshotNeeded,
    Status,
    open_client,
)
from tests.raw_device import handshake
from tests.redis_world import settle
from tests.trio_streams import for_client
from tests.world import ENGINES, WORLDS, World, open_world

pytestmark = pytest.mark.kinds(*ENGINES)


@define(eq=False)
class Link:
    """What a client connects through: it can be cut, and be down.

    Attributes:
        is_down: Whether there is no connection to be had.
        statuses: What the client told of.
    """

    world: World
    is_down: bool = False
    statuses: list[Status] = field(factory=list)
    _ends: list[trio.abc.Stream] = field(factory=list)

    async def open_stream(self) -> trio.abc.Stream:
        if self.is_down:
            raise OSError("the network is down")
        near, far = trio.testing.memory_stream_pair()
        self._ends = [near, far]
        self.world.connections.start_soon(self.world.node.serve_stream, far)
        return near

    async def cut(self) -> None:
        """Break the connection; what is under way is lost."""
        for end in self._ends:
            await trio.aclose_forcefully(end)

    async def go_down(self) -> None:
        self.is_down = True
        await self.cut()
        await settle()

    async def come_back(self, client: Client) -> None:
        """Be there again, and wait until the client is."""
        self.is_down = False
        await client.wait_ready()

    def client(self, **changes: Any) -> AbstractAsyncContextManager[Client]:
        options: dict[str, Any] = {
            "get_token": self.world.token,
            "open_stream": for_client(self.open_stream),
            "draw": lambda: 1.0,
            "on_status": self.statuses.append,
        }
        return open_client("ws://localhost/v1/sync", **options | changes)

    @property
    def resumed(self) -> list[bool | None]:
        """For each time it connected, whether it resumed."""
        return [status.resumed for status in self.statuses if isinstance(status, Connected)]


def client_of(world: World, statuses: list[Status] | None = None, **changes: Any) -> Any:
    return Link(world, statuses=[] if statuses is None else statuses).client(**changes)


async def take(client: Client, count: int) -> list[Any]:
    """So many arrivals, events as their data."""
    with trio.fail_after(1000):
        arrivals = [await anext(client) for _ in range(count)]
    return [arrival.data if isinstance(arrival, ReceivedEvent) else arrival for arrival in arrivals]


async def assert_no_more(client: Client) -> None:
    with trio.move_on_after(100):
        pytest.fail(f"{await anext(client)} is one too many.")


def item(number: int, **changes: Any) -> dict[str, Any]:
    return {"event": "item-create", "user": "ada", "vault": "v1", "data": number} | changes


MIXED = (
    item(1),
    item(2, group="laptop"),
    item(3, vault="v2"),
    item(4, group="phone"),
    item(5, user="bob"),
    {"event": "user-update", "user": "ada", "group": "laptop", "data": 6},
    {"event": "vault-create", "user": "ada", "vault": "v3", "data": 7},
    item(8),
)
HEARD = [1, 4, 7, 8]
"""The data of those that Ada's laptop is told of, if it subscribed to v1."""


@pytest.mark.kinds(*WORLDS)
async def test_a_device_gets_what_it_subscribed_to(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
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
            notice = await anext(client)
            assert isinstance(notice, SnapshotNeeded)
            assert notice.vaults == ("v1",)
            first, second = await anext(client), await anext(client)
            assert first == ReceivedEvent("item-create", "v1", {"n": 1}, first.cursor)
            assert second == ReceivedEvent("item-create", "v2", {"n": 3}, second.cursor)
            cursors = [arrival.cursor for arrival in (notice, first, second)]
            assert None not in cursors
            assert len(set(cursors)) == 3
            assert client.cursor == cursors[-1]
        await settle()
        assert len(tuple(world.node.devices())) == 0


async def test_hours_of_hourly_tokens_are_one_connection(autojump_clock: MockClock, kind: str) -> None:
    statuses: list[Status] = []
    async with open_world(kind) as world, client_of(world, statuses) as client:
        await client.wait_ready()
        await trio.sleep(3 * 3600)
        assert client.session is not None
    # Asked 60 s before each expiry: every 59 minutes.
    assert len(statuses) == 1 + 3 * 3600 // (59 * 60)
    assert all(isinstance(status, Connected) for status in statuses)


async def test_a_token_that_is_not_renewed_ends_it(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        token = world.token()
        async with client_of(world, get_token=lambda: token) as client:
            await anext(client)
            with pytest.raises(ClosedByServerError) as caught:
                await anext(client)
            # At the end of the hour, and after one pause.
            assert (caught.value.code, world.now()) == (4410, 3601)


async def test_a_restart_is_survived(autojump_clock: MockClock, kind: str) -> None:
    statuses: list[Status] = []
    async with open_world(kind) as world, client_of(world, statuses, vaults=["v1"]) as client:
        await client.wait_ready()
        await world.raw(handshake())  # which is told after the client, and holds the drain up
        world.nursery.start_soon(world.node.drain, 60)
        await settle()
        assert isinstance(statuses[-1], Disconnected)
        assert (statuses[-1].code, statuses[-1].reason) == (1001, "server-shutdown")
        await trio.sleep(11)
        # A node that drains refuses the handshake: try again later.
        assert statuses[-1] == Disconnected(None, "", statuses[-1].message, 10.0)


async def test_a_refused_subscription_changes_nothing(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind, max_vaults=2) as world, client_of(world, vaults=["v1"]) as client:
        await client.wait_ready()
        with pytest.raises(RequestRefusedError, match="too-many-vaults"):
            await client.subscribe(["v1", "v2", "v3"])
        assert client.vaults == ("v1",)
        await world.publish({"event": "item-create", "user": "ada", "vault": "v1", "data": 1})
        assert (await take(client, 2))[1:] == [1]


async def test_a_revoked_device_does_not_come_back(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world, client_of(world) as client:
        await client.wait_ready()
        assert await world.disconnect(user="ada", group="laptop") == 1
        await anext(client)
        with pytest.raises(ClosedByServerError) as caught:
            await anext(client)
        assert (caught.value.code, caught.value.reason) == (4403, "forbidden")


async def test_a_deleted_user_hears_of_it_and_is_gone(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world, client_of(world) as client:
        await client.wait_ready()
        await world.publish({"event": "user-delete", "user": "ada"})
        assert isinstance(await anext(client), SnapshotNeeded)
        assert (await take(client, 1)) == [None]
        with pytest.raises(ClosedByServerError, match="4403 forbidden"):
            await anext(client)


async def test_nothing_is_lost_and_nothing_comes_twice(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        link = Link(world)
        async with link.client(vaults=["v1"]) as client:
            await client.wait_ready()
            await world.publish(*MIXED)
            await link.go_down()
            await world.publish(*MIXED)
            await link.come_back(client)
            await world.publish(*MIXED)
            assert (await take(client, 13))[1:] == HEARD * 3
            await assert_no_more(client)
    assert link.resumed == [None, True]


@pytest.mark.parametrize(("buffered", "patience"), [(1024, 0.0), (1024, 0.12), (3, 0.0), (3, 0.12)])
async def test_a_connection_that_breaks_again_and_again(
    autojump_clock: MockClock, kind: str, buffered: int, patience: float
) -> None:
    async with open_world(kind) as world:
        link = Link(world)

        async def publish() -> None:
            for number in range(100):
                await world.node.publish(world.decode_events([item(number), item(-1, group="laptop")]))
                await trio.sleep(0.1)

        async def break_off() -> None:
            for _ in range(6):
                await trio.sleep(1.5)
                await link.cut()

        async with (
            link.client(vaults=["v1"], buffered_events=buffered) as client,
            trio.open_nursery() as nursery,
        ):
            told = await take(client, 1)
            nursery.start_soon(publish)
            nursery.start_soon(break_off)
            while len(told) < 101:
                told += await take(client, 1)
                # With 0.12 s there is always something that waits, here or at the node.
                await trio.sleep(patience)
            await assert_no_more(client)
    assert told[1:] == list(range(100))
    assert link.resumed[0] is None
    assert set(link.resumed[1:]) == {True}


async def test_another_client_goes_on_where_one_was_left(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        async with client_of(world, vaults=["v1"]) as client:
            await client.wait_ready()
            await world.publish(*MIXED)
            assert (await take(client, 3))[1:] == HEARD[:2]
            stored = client.cursor
        await world.publish(*MIXED)
        async with client_of(world, vaults=["v1"], since=stored) as client:
            assert await take(client, 6) == HEARD[2:] + HEARD
            await assert_no_more(client)


async def test_who_was_away_for_too_long_needs_a_snapshot(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind, history_events=5) as world:
        link = Link(world)
        async with link.client(vaults=["v1"]) as client:
            await client.wait_ready()
            await world.publish(item(1))
            await link.go_down()
            await world.publish(*[item(number) for number in range(2, 8)])
            await link.come_back(client)
            await world.publish(item(8))
            first, one, notice, eight = await take(client, 4)
            assert (one, eight) == (1, 8)
            assert isinstance(first, SnapshotNeeded)
            assert isinstance(notice, SnapshotNeeded)
            assert notice.vaults == ("v1",)
            assert notice.cursor != first.cursor
            # From the notice on nothing is lost any more.
            await link.go_down()
            await world.publish(item(9))
            await link.come_back(client)
            assert await take(client, 1) == [9]
            await assert_no_more(client)
    assert link.resumed == [None, False, True]


async def test_without_history_every_connection_needs_a_snapshot(
    autojump_clock: MockClock, kind: str
) -> None:
    async with open_world(kind, history_events=0) as world:
        link = Link(world)
        async with link.client(vaults=["v1"]) as client:
            await client.wait_ready()
            await link.go_down()
            await world.publish(item(1))
            await link.come_back(client)
            await world.publish(item(2))
            first, second, event = await take(client, 3)
            assert isinstance(first, SnapshotNeeded)
            assert isinstance(second, SnapshotNeeded)
            assert event == 2


async def test_a_cursor_of_another_user_needs_a_snapshot(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        async with client_of(world) as client:
            await take(client, 1)
            stored = client.cursor
        await world.publish(item(1), {"event": "user-update", "user": "bob", "data": "private"})
        async with client_of(world, get_token=lambda: world.token("bob"), since=stored) as client:
            (notice,) = await take(client, 1)
            assert isinstance(notice, SnapshotNeeded)
            await assert_no_more(client)


async def test_a_vault_deleted_meanwhile(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        link = Link(world)
        async with link.client(vaults=["v1", "v2"]) as client:
            await take(client, 1)
            await link.go_down()
            deletion = {"event": "vault-delete", "user": "ada", "vault": "v1", "data": "gone"}
            await world.publish(item(1), deletion, item(2), item(3, vault="v2"))
            await link.come_back(client)
            assert await take(client, 3) == [1, "gone", 3]
            assert client.vaults == ("v2",)
            await link.go_down()
            await world.publish(item(4), item(5, vault="v2"))
            await link.come_back(client)
            assert await take(client, 1) == [5]
            await assert_no_more(client)


async def test_a_vault_wanted_meanwhile(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        link = Link(world)
        async with link.client(vaults=["v1"]) as client, trio.open_nursery() as nursery:
            await take(client, 1)
            await link.go_down()
            nursery.start_soon(client.subscribe, ["v2"])
            await world.publish(item(1), item(2, vault="v2"))
            await link.come_back(client)
            await world.publish(item(3), item(4, vault="v2"))
            assert await take(client, 2) == [2, 4]
            await assert_no_more(client)


async def test_a_quiet_hour_of_changes_of_its_own_does_not_make_a_cursor_too_old(
    autojump_clock: MockClock, kind: str
) -> None:
    async with open_world(kind) as world:
        link = Link(world)
        async with link.client() as client:
            await client.wait_ready()
            await world.publish(*[item(number, group="laptop") for number in range(10)])
            (notice,) = await take(client, 1)
            # The renewal after 59 minutes moves the cursor; what was before it is forgotten by then.
            await assert_no_more(client)
            assert client.cursor == notice.cursor
            await trio.sleep(3600)
            await assert_no_more(client)
            assert client.cursor != notice.cursor
            await link.cut()
            await assert_no_more(client)
    assert link.resumed == [None, None, True]


async def test_a_device_whose_events_the_node_missed_needs_a_snapshot(
    autojump_clock: MockClock, kind: str
) -> None:
    async with open_world(kind) as world:
        link = Link(world)
        async with link.client() as client:
            await take(client, 1)
            world.node.subscriber.lose("ada")
            await trio.sleep(2)
            # This node has the history after all.
            await assert_no_more(client)
        (disconnected,) = [status for status in link.statuses if isinstance(status, Disconnected)]
        assert (disconnected.code, disconnected.reason) == (4413, "missed-events")
    assert link.resumed == [None, True]
