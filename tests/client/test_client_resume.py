"""The client on Trio goes on where it was, whatever becomes of its connections."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from localful_ws.client import (
    Client,
    Connected,
    Disconnected,
    ReceivedEvent,
    SnapshotNeeded,
    open_client,
)
from tests.client.model_server import ModelServer, Published
from tests.client.scripted_server import SESSION, Peer, Script, ScriptedServer
from tests.client.scripts import sending, stay

ITEM = Published("item-create", "v1")
MISSED = (Published(own=True), ITEM, Published(), Published("item-create", "v2"), ITEM, Published(own=True))
HEARD = [3, 4, 6]
"""The positions, one event having been published before, of those that the device is told of."""


def serving(model: ModelServer, count: int | None = None, *then: Published) -> Script:
    """Answer as the model does: send so many messages, break off and publish; or send all and stay."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        model.take(await peer.receive())
        messages = model.under_way[:count]
        for message in messages:
            await peer.send(**message)
        if count is None:
            await peer.wait_closed()
        model.cut()
        model.publish(*then)
        await peer.stream.aclose()

    return script


async def take(client: Client, count: int) -> list[Any]:
    """So many arrivals, events as their positions; the client's cursor is that of the last one each time."""
    taken: list[Any] = []
    with trio.fail_after(1000):
        for _ in range(count):
            arrival = await anext(client)
            assert client.cursor == arrival.cursor
            taken.append(arrival.data if isinstance(arrival, ReceivedEvent) else arrival)
    return taken


async def assert_no_more(client: Client) -> None:
    with trio.move_on_after(1000):
        pytest.fail(f"{await anext(client)} is one too many.")


@pytest.mark.parametrize("patience", [0, 100], ids=["at once", "later"])
@pytest.mark.parametrize("second", range(len(HEARD) + 2))
@pytest.mark.parametrize("first", range(len(HEARD) + 2))
async def test_every_event_once_wherever_a_replay_is_cut_short(
    autojump_clock: MockClock, nursery: trio.Nursery, first: int, second: int, patience: float
) -> None:
    model = ModelServer()
    model.publish(ITEM)
    scripts = [
        serving(model, 1, *MISSED),
        serving(model, first),
        serving(model, second, ITEM),
        serving(model),
    ]
    server = ScriptedServer(nursery, [*scripts])
    async with server.client(vaults=["v1"]) as client:
        await trio.sleep(patience)
        assert await take(client, 5) == [SnapshotNeeded(model.cursor(1), ("v1",)), *HEARD, 8]
        await assert_no_more(client)
        assert client.cursor == model.cursor(8)
    assert server.scripts == []


async def test_a_needed_snapshot_comes_in_its_place(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    model = ModelServer()
    model.publish(ITEM)

    async def lose(peer: Peer) -> None:
        model.lose_stream()
        await serving(model, None)(peer)

    server = ScriptedServer(nursery, [serving(model, 2, ITEM, ITEM), lose])
    async with server.client(vaults=["v1"], since=model.cursor(0)) as client:
        # By now the first connection is gone, and the second is there. Nothing has been handed over.
        await trio.sleep(10)
        assert client.cursor == f"{model.cursor(0)[:-1]}0"
        assert await take(client, 1) == [1]
        assert await take(client, 1) == [SnapshotNeeded(model.cursor(3), ("v1",))]
        await assert_no_more(client)
    assert [status.resumed for status in server.statuses if isinstance(status, Connected)] == [True, False]


async def test_a_stored_cursor_is_where_it_begins(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    model = ModelServer()
    model.publish(ITEM, *MISSED)
    server = ScriptedServer(nursery, [serving(model)])
    async with server.client(vaults=["v1"], since=model.cursor(3)) as client:
        assert client.cursor == model.cursor(3)
        assert await take(client, 2) == HEARD[1:]
        await assert_no_more(client)
        assert client.cursor == model.cursor(6)
    assert server.statuses == [Connected(SESSION, ("v1",), resumed=True)]


async def test_what_was_not_handed_over_is_not_behind_the_cursor(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    model = ModelServer()
    model.publish(ITEM, ITEM, ITEM)
    server = ScriptedServer(nursery, [serving(model), serving(model)])
    async with server.client(vaults=["v1"], since=model.cursor(0)) as client:
        assert await take(client, 1) == [1]
        await trio.testing.wait_all_tasks_blocked()
    stored = client.cursor
    assert stored == model.cursor(1)
    # What was received can be taken still; another client begins where this one was left.
    async with server.client(vaults=["v1"], since=stored) as another:
        assert await take(another, 2) == [2, 3]
    assert await take(client, 2) == [2, 3]
    with pytest.raises(StopAsyncIteration):
        await anext(client)


@pytest.mark.parametrize("since", ["", "c" * 129])
def test_what_cannot_be_a_cursor_is_refused_at_once(since: str) -> None:
    with pytest.raises(ValueError, match="since must be a cursor"):
        open_client("ws://server.test", lambda: "token", since=since)


async def test_a_renewal_moves_the_cursor_of_a_device_that_is_told_nothing(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def answer_renewal(peer: Peer, cursor: str) -> None:
        await peer.send(event="reauthenticate", expiresAt=60)
        said = await peer.receive()
        assert "since" not in said
        answer = {"user": "ada", "group": "phone", "expiresAt": 120, "vaults": [], "cursor": cursor}
        await peer.send(event="authenticated", **answer, id=said["id"])

    async def script(peer: Peer) -> None:
        await peer.authenticate(cursor="c0")
        await peer.send(event="user-update", data=1, cursor="c1")
        await answer_renewal(peer, "c0")
        await trio.sleep(10)
        await answer_renewal(peer, "c5")
        await peer.wait_closed()

    server = ScriptedServer(nursery, [script])
    async with server.client() as client:
        await trio.sleep(5)
        cursors = [client.cursor]
        assert await take(client, 2) == [SnapshotNeeded("c0"), 1]
        with trio.move_on_after(1):
            await anext(client)
        cursors.append(client.cursor)
        await assert_no_more(client)
        assert [*cursors, client.cursor] == [None, "c1", "c5"]
    renewed = server.statuses[-1]
    assert isinstance(renewed, Connected)
    assert (renewed.session.expires_at, renewed.resumed) == (120, None)


async def test_a_vault_deleted_in_a_replay_is_asked_for_no_more(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    model = ModelServer()
    deletion = Published("vault-delete", "v1")
    server = ScriptedServer(
        nursery, [serving(model, 1, ITEM, deletion, Published()), serving(model, 3), serving(model)]
    )
    async with server.client(vaults=["v1", "v2"]) as client:
        assert await take(client, 4) == [SnapshotNeeded(model.cursor(0), ("v1", "v2")), 1, 2, 3]
        await assert_no_more(client)
        assert client.vaults == ("v2",)
    assert server.statuses[-1] == Connected(SESSION, ("v2",), resumed=True)


async def test_a_server_without_history_needs_a_snapshot_with_every_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    sinces: list[str | None] = []

    async def script(peer: Peer) -> None:
        sinces.append((await peer.authenticate(cursor=None)).get("since"))
        await peer.send(event="user-update", data=len(sinces))
        await peer.stream.aclose()

    server = ScriptedServer(nursery, [script, script, stay])
    async with server.client(vaults=["v1"]) as client:
        notice = SnapshotNeeded(None, ("v1",))
        assert await take(client, 4) == [notice, 1, notice, 2]
        assert client.cursor is None
    assert sinces == [None, None]


async def test_a_connection_lost_before_it_was_authenticated_is_made_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    model = ModelServer()

    async def hang_up(peer: Peer) -> None:
        await peer.accept()
        await peer.receive()
        await peer.stream.aclose()

    refused = OSError("connection refused")
    server = ScriptedServer(nursery, [hang_up, serving(model, 1, ITEM), refused, hang_up, serving(model)])
    async with server.client(vaults=["v1"]) as client:
        assert await take(client, 2) == [SnapshotNeeded(model.cursor(0), ("v1",)), 1]
        await assert_no_more(client)


async def test_a_device_whose_events_the_server_missed_comes_back_for_a_snapshot(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    model = ModelServer()

    async def miss(peer: Peer) -> None:
        await peer.authenticate(cursor=model.cursor())
        model.lose_stream()
        await peer.close(4413, "missed-events")

    server = ScriptedServer(nursery, [miss, serving(model)])
    async with server.client() as client:
        lost = model.cursor()
        assert await take(client, 2) == [SnapshotNeeded(lost), SnapshotNeeded(model.cursor())]
        assert model.cursor() != lost
    assert server.statuses[1] == Disconnected(4413, "missed-events", "The server closed the connection.", 1.0)


async def test_an_event_outside_the_stream_leaves_the_cursor(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [sending('{"event":"somebody-is-typing","data":1}')])
    async with server.client() as client:
        assert await take(client, 1) == [SnapshotNeeded("the-end")]
        assert await anext(client) == ReceivedEvent("somebody-is-typing", None, 1)
        assert client.cursor == "the-end"
